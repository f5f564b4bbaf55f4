"""What follows a small file that was opened is asked for ahead, while files are waited for (layerfs/lane/ahead.c)."""

from pathlib import Path

import pytest

from tests.lane.rig import HOME, Rig

COUNT = 60


def handed(rig: Rig, place: Path) -> list[bytes]:
    """Hand a directory over, listed in another order than that of its names; return that order."""
    names = [b"%03d" % (number * 7 % COUNT) for number in range(COUNT)]
    for name in names:
        (place / name.decode()).write_bytes(b"data")
    rig.hand_over(HOME, place, names)
    return names


@pytest.mark.parametrize("by_name", [False, True])
def test_files_that_follow_in_either_order_are_asked_for_until_they_prove_to_be_in_memory(
    tmp_path: Path, by_name: bool
) -> None:
    with Rig() as rig:
        names = handed(rig, tmp_path)
        order = sorted(names) if by_name else names
        asked = [rig.lane.ahead(HOME, names.index(name), waited=True) for name in order]
        assert asked[:2] == [0, 15] and sum(asked) in range(16, 2 * COUNT)
        assert not any(rig.lane.ahead(HOME, position, waited=False) for position in range(COUNT))


def test_nothing_is_asked_for_while_nobody_waits_or_without_an_order(tmp_path: Path) -> None:
    with Rig() as rig:
        handed(rig, tmp_path)
        assert not any(rig.lane.ahead(HOME, position, waited=False) for position in range(COUNT))
        assert not any(rig.lane.ahead(HOME, position * 11 % COUNT, waited=True) for position in range(COUNT))
        assert not rig.lane.ahead(HOME, COUNT, waited=True) and not rig.lane.ahead(HOME + 1, 0, waited=True)


def test_a_directory_that_goes_and_comes_back_smaller_is_followed_anew(tmp_path: Path) -> None:
    with Rig() as rig:
        names = handed(rig, tmp_path)
        assert [rig.lane.ahead(HOME, position, waited=True) > 0 for position in range(2)] == [False, True]
        rig.lane.drop(HOME)
        rig.hand_over(HOME, tmp_path, names[:3])
        assert [rig.lane.ahead(HOME, position, waited=True) for position in range(3)] == [0, 1, 0]
