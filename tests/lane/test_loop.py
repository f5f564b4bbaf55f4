"""What the loop hands out beside requests for libfuse: a WRITE, a listing, and the turn of whoever waits beside."""

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.lane.events import LaneEvent
from tests.lane.rig import FORGET, HEADER, HOME, READDIR, READDIRPLUS, READLINK, WRITE, Rig, dirents, number_of


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


def ask_to_list(rig: Rig, opcode: int = READDIR, size: int = 4096) -> int:
    return rig.request(opcode, HOME, struct.pack("=QQIIQII", 0, 0, size, 0, 0, 0, 0))


@pytest.mark.parametrize("plus", [False, True])
def test_a_listing_is_answered_once_its_directory_was_handed_over(rig: Rig, scratch: Path, plus: bool) -> None:
    """Whoever loads the directory need not list it, and its files are the lane's."""
    (scratch / "f").write_bytes(b"x")
    unique = ask_to_list(rig, READDIRPLUS if plus else READDIR)
    assert rig.step() == LaneEvent.LIST and rig.lane.listing() == HOME
    rig.hand_over(HOME, scratch, [b"f"])
    assert rig.step() == LaneEvent.NOTHING and rig.passed() is None
    answer = rig.answer()
    assert answer is not None and answer[:2] == (unique, 0)
    found = dirents(answer[2], plus=plus)
    assert [(number, name) for _, number, _, name in found] == [
        (HOME, b"."), (1, b".."), (number_of(scratch / "f"), b"f"),
    ]  # fmt: skip
    assert rig.lane.listing() == 0 and rig.answer() is None
    ask_to_list(rig)
    assert rig.step() == LaneEvent.NOTHING and rig.answer() is not None, "it is at hand: nobody is told"


def test_a_listing_of_what_is_not_handed_over_is_told_of_once_and_passed_on(rig: Rig) -> None:
    for _ in range(2):
        ask_to_list(rig)
        assert [rig.step() for _ in range(3)] == [LaneEvent.LIST, LaneEvent.REQUEST, LaneEvent.NOTHING]
        assert rig.passed() is not None and rig.answer() is None


@pytest.mark.parametrize("relist", [False, True])
def test_a_listing_that_the_lane_cannot_give_is_passed_on(rig: Rig, scratch: Path, relist: bool) -> None:
    """Of a directory that was edited, or whose first name has no room in the answer."""
    ask_to_list(rig, size=4096 if relist else 8)
    assert rig.step() == LaneEvent.LIST
    rig.hand_over(HOME, scratch, [])
    if relist:
        rig.lane.relist(HOME)
    assert rig.step() == LaneEvent.REQUEST and rig.passed() is not None
    if relist:
        ask_to_list(rig)
        assert rig.step() == LaneEvent.REQUEST and rig.passed() is not None


def test_without_a_pair_a_listing_is_raw_unless_it_is_answered(scratch: Path) -> None:
    with Rig(pair=False) as rig:
        ask_to_list(rig)
        assert (rig.step(), rig.step()) == (LaneEvent.LIST, LaneEvent.RAW)
        message = rig.lane.raw()
        assert struct.unpack_from("=Q", message, HEADER.size) == (HOME,), "the number stands in the place of the handle"
        assert rig.step() == LaneEvent.NOTHING
        ask_to_list(rig)
        assert rig.step() == LaneEvent.LIST
        assert rig.lane.raw() == message[:8] + struct.pack("=Q", rig.unique) + message[16:]
        rig.request(READLINK, HOME)
        assert rig.step() == LaneEvent.RAW


def test_a_listing_that_was_read_before_is_told_of_too(rig: Rig, scratch: Path) -> None:
    body = struct.pack("=QQIIQII", 0, 0, 4096, 0, 0, 0, 0)
    rig.lane.hold([HEADER.pack(HEADER.size + len(body), READDIR, 8, HOME, 0, 0, 0, 0, 0) + body])
    assert rig.step() == LaneEvent.LIST
    rig.hand_over(HOME, scratch, [])
    assert rig.step() == LaneEvent.NOTHING
    assert (rig.answer() or (0,))[0] == 8


def test_whoever_waits_for_a_job_hears_of_a_listing_that_was_told_of(rig: Rig, scratch: Path) -> None:
    near, far = os.pipe()
    rig.fds += [near, far]
    unique = ask_to_list(rig)
    assert rig.lane.wait(-1, near, 0, spin=False) == LaneEvent.OTHER
    assert rig.step() == LaneEvent.LIST
    assert rig.lane.wait(-1, near, 0, spin=False) == LaneEvent.OTHER
    rig.hand_over(HOME, scratch, [])
    assert rig.step() == LaneEvent.NOTHING
    assert (rig.answer() or (0,))[0] == unique


def test_a_message_too_short_for_a_listing_is_none(rig: Rig) -> None:
    rig.request(FORGET, HOME, bytes(8))
    assert rig.step() == LaneEvent.REQUEST and rig.lane.listing() == 0
    rig.kernel.send(b"short")
    assert rig.step() == LaneEvent.REQUEST and rig.lane.listing() == 0


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
