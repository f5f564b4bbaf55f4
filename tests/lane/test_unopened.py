"""Files that the kernel opens by itself (layerfs/lane/unopened.c): OPEN is ENOSYS, and a READ carries no handle."""

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.lane.events import LaneEvent
from tests.lane.rig import HEADER, HOME, OPEN, READ, READDIR, READDIRPLUS, Rig, lookup

SIZE = 100
FALLOCATE, FLUSH, FSYNC, FSYNCDIR, IOCTL, LSEEK = 43, 25, 20, 30, 39, 46


@pytest.fixture
def alone(home: Path) -> Iterator[Rig]:
    """A lane that holds three files open at most, and a directory of six."""
    names = [b"f%d" % number for number in range(6)]
    for name in names:
        (home / os.fsdecode(name)).write_bytes(name * (SIZE // 2))
    with Rig(files=3) as rig:
        rig.lane.no_open()
        rig.hand_over(HOME, home, [b"file", *names])
        yield rig


def read(rig: Rig, number: int, offset: int = 0, handle: int = 0, size: int = SIZE) -> tuple[int, bytes] | None:
    return rig.ask(READ, number, struct.pack("=QQIIQII", handle, offset, size, 0, 0, 0, 0))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_an_open_is_enosys_also_of_what_the_lane_does_not_know(alone: Rig) -> None:
    number, _ = lookup(alone, b"file") or (0, 0)
    for node in (number, 12345):
        assert alone.ask(OPEN, node, struct.pack("=II", os.O_RDONLY, 0)) == (errno.ENOSYS, b"")


def test_a_file_that_is_read_whole_does_not_stay_open(alone: Rig) -> None:
    number, _ = lookup(alone, b"file") or (0, 0)
    before = descriptors()
    for _ in range(2):
        assert read(alone, number) == (0, b"content")
        assert descriptors() == before


@pytest.mark.parametrize("end", ["forget", "take"])
def test_a_file_that_is_read_in_part_stays_open_until_it_is_forgotten_or_given_up(alone: Rig, end: str) -> None:
    number, _ = lookup(alone, b"f1") or (0, 0)
    before = descriptors()
    assert read(alone, number, size=3) == (0, b"f1f")
    assert descriptors() == before + 1
    if end == "forget":
        alone.request(2, number, struct.pack("=Q", 1))
        alone.step()
        assert read(alone, number) is None
    else:
        taken = alone.lane.take(number)
        assert taken is not None and (taken.fd, taken.opens, taken.lookups) == (-1, 0, 1)
    assert descriptors() == before


def test_the_file_opened_first_makes_room_and_is_opened_again(alone: Rig) -> None:
    names = [b"f%d" % number for number in range(6)]
    numbers = [(lookup(alone, name) or (0, 0))[0] for name in names]
    before = descriptors()
    for _ in range(3):
        for name, number in zip(names, numbers, strict=True):
            assert read(alone, number, 1, size=1) == (0, name[1:])
            assert descriptors() <= before + 3
    assert descriptors() == before + 3


def test_a_file_that_was_exchanged_is_for_others(alone: Rig, home: Path) -> None:
    number, _ = lookup(alone, b"file") or (0, 0)
    (home / "new").write_bytes(b"another")
    (home / "new").rename(home / "file")
    assert read(alone, number) is None


def test_a_handle_is_for_others_and_so_is_a_file_where_opens_are_answered(alone: Rig, rig: Rig, home: Path) -> None:
    number, _ = lookup(alone, b"file") or (0, 0)
    assert read(alone, number, handle=number) is None
    number, _ = lookup(rig, b"file") or (0, 0)
    assert read(rig, number) is None


@pytest.mark.parametrize("opcode", [READ, FLUSH, FSYNC, FSYNCDIR, IOCTL, FALLOCATE, LSEEK, READDIR, READDIRPLUS])
@pytest.mark.parametrize("handle", [0, 9])
def test_what_is_passed_on_carries_the_number_in_the_place_of_no_handle(alone: Rig, opcode: int, handle: int) -> None:
    alone.request(opcode, 54321, struct.pack("=Q", handle) + bytes(32))
    while alone.step() == LaneEvent.LIST:
        pass
    message = alone.passed()
    assert message is not None
    assert struct.unpack_from("=Q", message, HEADER.size) == (handle or 54321,)
    assert message[HEADER.size + 8 :] == bytes(32)


def test_a_message_without_room_for_a_handle_is_passed_on_as_it_is(alone: Rig) -> None:
    alone.request(READ, 54321, b"1234567")
    alone.step()
    assert (alone.passed() or b"")[HEADER.size :] == b"1234567"
