"""What the next one who opens a store does about what was interrupted; the crash suite kills at every step."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.errors import LayerfsError
from layerfs.snapshots.driver import Snapshot
from layerfs.snapshots.library import open_store
from layerfs.snapshots.recovery import mend, recover
from layerfs.store import rows
from layerfs.sys.locks import lock_file
from tests.contract.subjects import Subject, a_subject
from tests.waiting import wait_until


@pytest.fixture
def subject(scratch: Path) -> Iterator[Subject]:
    with a_subject("overlay", scratch) as found:
        yield found


def directories(subject: Subject) -> dict[str, list[str]]:
    root = subject.root / "drivers" / subject.name
    return {name: sorted(os.listdir(root / name)) for name in ("making", "snapshots", "trash")}


def test_what_somebody_still_makes_is_left_alone(subject: Subject) -> None:
    places = subject.snapshots.places
    os.mkdir(places.staged(7))
    held = lock_file(places.staged(7) + b".lock")
    recover(subject.snapshots)
    assert directories(subject)["making"] == ["7", "7.lock"]
    os.close(held)
    recover(subject.snapshots)
    assert directories(subject) == {"making": [], "snapshots": [], "trash": ["7"]}


def test_directory_that_is_about_to_be_entered_in_the_ledger_is_no_stray(subject: Subject) -> None:
    places = subject.snapshots.places
    os.mkdir(places.place(7))
    held = lock_file(places.staged(7) + b".lock")
    assert mend(subject.snapshots).strays == ()
    recover(subject.snapshots)
    assert directories(subject) == {"making": ["7.lock"], "snapshots": ["7"], "trash": []}
    os.close(held)
    recover(subject.snapshots)
    assert directories(subject) == {"making": [], "snapshots": [], "trash": ["7"]}


def test_removal_that_the_ledger_never_heard_of_is_taken_back(subject: Subject) -> None:
    subject.snapshots.prepare("work")
    subject.snapshots.places.set_aside(1)
    recover(subject.snapshots)
    assert directories(subject)["snapshots"] == ["1"]
    with subject.at("work"):
        pass


def test_cleanup_leaves_what_a_removal_takes_back(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """A removal that the ledger could not take in had put the directory where cleanup looked just then."""
    subject.snapshots.prepare("work")
    with subject.at("work") as target:
        (target / "file").write_text("kept")
    monkeypatch.setattr("layerfs.snapshots.recovery.recover", lambda snapshotter: None)  # it came before
    with open_store(subject.root) as store:
        other = store.snapshotter("overlay")
        cleanup = threading.Thread(target=other.cleanup)
        set_aside = subject.snapshots.places.set_aside

        def fail(place: int) -> None:
            set_aside(place)
            cleanup.start()
            wait_until(lambda: not cleanup.is_alive() or store.ledger._turns._holder is not None)
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(subject.snapshots.places, "set_aside", fail)
        with pytest.raises(OSError, match="Input/output"):
            subject.snapshots.remove("work")
        cleanup.join()
    with subject.at("work") as target:
        assert (target / "file").read_text() == "kept"


def test_seal_that_failed_is_tried_again(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sealed = []

    def seal(snapshot: Snapshot) -> None:
        sealed.append(snapshot.id)
        if len(sealed) == 1:
            raise LayerfsError("not now")

    monkeypatch.setattr(subject.snapshots.driver, "seal", seal)
    subject.snapshots.prepare("work")
    subject.snapshots.commit("base", "work")
    assert "committed, but not finished: not now" in caplog.text
    recover(subject.snapshots)
    subject.snapshots.flush()
    recover(subject.snapshots)
    assert sealed == [1, 1]


def test_all_directories_are_compared_with_the_ledger_once_a_mount(subject: Subject) -> None:
    subject.layer("base", a="1")
    subject.snapshots.prepare("work", "base")
    places, fact = subject.snapshots.places, f"session of {subject.name}"
    places.set_aside(2)
    places.erase(2)
    os.mkdir(places.place(77))
    recover(subject.snapshots)
    assert directories(subject)["snapshots"] == ["1", "77"]
    with subject.store.ledger.write() as db:
        rows.put_fact(db, fact, "another")
    recover(subject.snapshots)
    assert directories(subject) == {"making": [], "snapshots": ["1", "2"], "trash": ["77"]}
    with subject.at("work") as target:
        assert (target / "a").read_text() == "1"


def test_committed_snapshot_without_directory_is_reported_as_lost(subject: Subject) -> None:
    subject.layer("base", a="1")
    subject.snapshots.places.set_aside(1)
    subject.snapshots.places.erase(1)
    assert [row.info.name for row in mend(subject.snapshots).lost] == ["base"]
