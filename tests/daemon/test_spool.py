"""A long answer: made at once, read piece by piece, in a file where it is long."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.daemon.messages import SNAPSHOTS, message
from layerfs.daemon.spool import MEMORY, spooled

KeyOf = message(SNAPSHOTS, "StatSnapshotRequest")


def messages(made: list[int], size: int, count: int) -> Iterator[object]:
    for number in range(count):
        made.append(number)
        yield KeyOf(key="k" * size, snapshotter=str(number))


@pytest.mark.parametrize(
    ("size", "count"), [(10, 3), (1000, 2 * MEMORY // 1000), (0, 0)], ids=["short", "long", "empty"]
)
def test_all_is_made_at_once_and_comes_in_order(scratch: Path, size: int, count: int) -> None:
    made: list[int] = []
    pieces = spooled(messages(made, size, count), os.fsencode(scratch))
    assert len(made) == count
    assert os.listdir(scratch) == []
    assert [int(KeyOf.FromString(piece).snapshotter) for piece in pieces] == made
    assert list(pieces) == []


def test_what_nobody_reads_is_let_go(scratch: Path) -> None:
    """A descriptor that is left open fails the test."""
    pieces = spooled(messages([], 1000, 2 * MEMORY // 1000), os.fsencode(scratch))
    next(pieces)
    del pieces


def test_what_cannot_be_made_leaves_nothing(scratch: Path) -> None:
    def failing() -> Iterator[object]:
        yield KeyOf(key="k" * 2 * MEMORY)
        raise KeyError

    with pytest.raises(KeyError):
        spooled(failing(), os.fsencode(scratch))
