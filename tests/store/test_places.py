"""The directories of snapshots."""

import os
from pathlib import Path

import pytest

from layerfs.store.places import Places


def shape(places: Places) -> list[str]:
    root = Path(os.fsdecode(places.root))
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.parent != root)


@pytest.fixture
def places(scratch: Path) -> Places:
    made = Places(os.fsencode(scratch / "driver"))
    made.make()
    return made


def test_finished_snapshot_is_in_its_place_and_nothing_else_is_left(places: Places) -> None:
    with places.making(5) as staged:
        os.mkdir(staged + b"/fs")
        places.publish(5)
    assert shape(places) == ["snapshots/5", "snapshots/5/fs"]
    assert [oct(os.stat(path).st_mode & 0o777) for path in (places.root, places.place(5))] == ["0o700", "0o700"]


@pytest.mark.parametrize("published", [True, False])
def test_exception_leaves_what_was_made_in_the_trash(places: Places, published: bool) -> None:
    with pytest.raises(KeyError), places.making(5):
        if published:
            places.publish(5)
        raise KeyError
    assert shape(places) == ["trash/5"]
    places.erase(5)
    assert shape(places) == []


def test_what_somebody_makes_is_not_abandoned(places: Places) -> None:
    with places.making(5), places.abandoned() as numbers:
        assert numbers == []
        places.publish(5)
    (Path(os.fsdecode(places.root)) / "making/6.lock").touch()
    with places.abandoned() as numbers:
        assert numbers == [6]
        places.give_up(6)
    assert shape(places) == ["snapshots/5"]


def test_a_directory_at_the_name_of_a_lock_is_no_lock(places: Places) -> None:
    """e2fsck left one on ext2 after a power cut, and the store was not opened again."""
    for number in (6, 7):
        (Path(os.fsdecode(places.root)) / f"making/{number}.lock/below").mkdir(parents=True)
    with places.abandoned() as numbers:
        assert numbers == [6, 7]
        places.give_up(6)
        places.finished(7)
    assert shape(places) == []


def test_removal_is_a_rename_that_can_be_taken_back(places: Places) -> None:
    with places.making(5):
        places.publish(5)
    places.set_aside(5)
    assert (places.there(), places.trash()) == ([], [5])
    places.restore(5)
    places.restore(5)
    assert (places.there(), places.trash()) == ([5], [])
    places.set_aside(99)
