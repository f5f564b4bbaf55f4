"""What the loop hands out beside requests for libfuse: a WRITE, and the turn of whoever waits beside."""

import errno
import os
import struct
from collections.abc import Iterator

import pytest

from layerfs.lane.events import LaneEvent
from tests.lane.rig import WRITE, Rig

HOME = 77


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig() as rig:
        yield rig


def ask_to_write(rig: Rig, data: bytes, size: int | None = None) -> int:
    body = struct.pack("=QQIIQII", 7, 30, len(data) if size is None else size, 0, 0, 0, 0)
    return rig.request(WRITE, HOME, body + data)


def test_a_write_is_answered_by_who_waits_or_passed_on_at_the_next_wait(rig: Rig) -> None:
    unique = ask_to_write(rig, b"data")
    assert rig.step() == LaneEvent.WRITE
    handle, offset, data = rig.lane.writing()
    assert (handle, offset, bytes(data)) == (7, 30, b"data")
    rig.lane.written(0, 4)
    assert rig.answer() == (unique, 0, struct.pack("=II", 4, 0))
    with pytest.raises(OSError, match="Invalid"):
        rig.lane.writing()
    unique = ask_to_write(rig, b"data")
    assert rig.step() == LaneEvent.WRITE
    rig.lane.written(errno.ENOSPC, 0)
    assert rig.answer() == (unique, errno.ENOSPC, b"")
    rig.lane.written(0, 4)
    assert rig.answer() is None
    ask_to_write(rig, b"data")
    assert (rig.step(), rig.step()) == (LaneEvent.WRITE, LaneEvent.REQUEST)
    assert (rig.passed() or b"").endswith(b"data")


def test_without_a_pair_a_write_is_raw_unless_it_is_answered() -> None:
    with Rig(pair=False) as rig:
        unique = ask_to_write(rig, b"data")
        assert rig.step() == LaneEvent.WRITE
        rig.lane.written(0, 4)
        assert rig.answer() == (unique, 0, struct.pack("=II", 4, 0))
        ask_to_write(rig, b"data")
        assert (rig.step(), rig.step()) == (LaneEvent.WRITE, LaneEvent.RAW)
        assert rig.lane.raw().endswith(b"data")
        assert rig.step() == LaneEvent.NOTHING


@pytest.mark.parametrize("size", [3, 5, 2**32 - 1])
def test_a_write_of_another_size_than_it_says_is_for_others(rig: Rig, size: int) -> None:
    ask_to_write(rig, b"data", size)
    assert rig.step() == LaneEvent.REQUEST


def test_whoever_waits_beside_has_a_turn_while_requests_are_always_there(rig: Rig) -> None:
    """Where each request was for others, nobody looked at what else there was."""
    near, far = os.pipe()
    rig.fds += [near, far]
    os.write(far, b"x")
    events = []
    for _ in range(20):
        rig.request(99, HOME)
        events.append(rig.lane.wait(near, -1, 0, spin=False))
        rig.passed()
    assert LaneEvent.OTHER in events and LaneEvent.REQUEST in events
