"""Requests for libfuse handed over in memory (layerfs/lane/memory.c), as each session's are; the test is libfuse."""

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.lane.events import LaneEvent
from tests.lane.libfuse import FD, Libfuse
from tests.lane.rig import FORGET, HEADER, READDIR, READLINK, REPLY, ROOM, WRITE, Rig

ELSEWHERE = 54321
SETXATTR, INTERRUPT = 21, 36


@pytest.fixture
def libfuse() -> Iterator[Libfuse]:
    libfuse = Libfuse()
    yield libfuse
    libfuse.close()


@pytest.fixture
def rig(home: Path, libfuse: Libfuse) -> Iterator[Rig]:
    with Rig() as rig:
        assert rig.lane.in_memory(FD)
        yield rig


def test_a_request_is_taken_and_answered_without_the_pair(rig: Rig, libfuse: Libfuse) -> None:
    assert libfuse.read() is None
    unique = rig.request(READLINK, ELSEWHERE, b"body")
    assert (rig.step(), rig.step()) == (LaneEvent.REQUEST, LaneEvent.REQUEST)
    assert rig.lane.outstanding == 0
    message = libfuse.read()
    assert message is not None and message[HEADER.size :] == b"body"
    assert libfuse.read() is None and rig.lane.outstanding == 1
    assert libfuse.answer(unique, b"tar", b"get") == REPLY.size + 6
    assert rig.lane.outstanding == 0
    assert rig.answer() == (unique, 0, b"target")
    assert rig.passed() is None


def test_whoever_waits_for_a_job_hears_of_a_request_that_was_not_taken(rig: Rig, libfuse: Libfuse) -> None:
    near, far = os.pipe()
    rig.fds += [near, far]
    rig.request(READLINK, ELSEWHERE)
    assert rig.step() == LaneEvent.REQUEST
    assert rig.lane.wait(-1, near, 0, spin=False) == LaneEvent.OTHER
    assert rig.step() == LaneEvent.REQUEST and libfuse.read() is not None


@pytest.mark.parametrize("opcode", [FORGET, INTERRUPT])
def test_what_has_no_answer_is_not_waited_for(rig: Rig, libfuse: Libfuse, opcode: int) -> None:
    rig.request(opcode, ELSEWHERE, bytes(8))
    assert rig.step() == LaneEvent.REQUEST and libfuse.read() is not None
    assert rig.lane.outstanding == 0
    libfuse.answer(rig.unique | 1, error=errno.EAGAIN)
    assert rig.lane.outstanding == 0


def test_a_listing_is_told_of_once_and_then_taken(rig: Rig, libfuse: Libfuse) -> None:
    rig.request(READDIR, ELSEWHERE, bytes(40))
    assert [rig.step() for _ in range(3)] == [LaneEvent.LIST, LaneEvent.REQUEST, LaneEvent.REQUEST]
    message = libfuse.read()
    assert message is not None and struct.unpack_from("=Q", message, HEADER.size) == (ELSEWHERE,)
    assert rig.step() == LaneEvent.NOTHING


def test_a_request_that_libfuse_has_no_room_for_fails(rig: Rig, libfuse: Libfuse) -> None:
    unique = rig.request(READLINK, ELSEWHERE)
    assert rig.step() == LaneEvent.REQUEST and libfuse.read(HEADER.size - 1) is None
    assert rig.answer() == (unique, errno.EIO, b"")
    assert rig.step() == LaneEvent.NOTHING


def test_requests_as_large_as_they_may_be_and_larger_answers_pass_whole(rig: Rig, libfuse: Libfuse) -> None:
    body = os.urandom(ROOM - HEADER.size)
    unique = rig.request(SETXATTR, ELSEWHERE, body)
    assert rig.step() == LaneEvent.REQUEST
    message = libfuse.read()
    assert message is not None and message[HEADER.size :] == body
    libfuse.answer(unique, body, b"more")
    assert rig.answer() == (unique, 0, body + b"more")


@pytest.mark.parametrize("opcode", [READLINK, FORGET])
def test_a_request_that_was_held_and_is_too_large_fails_alone(rig: Rig, libfuse: Libfuse, opcode: int) -> None:
    """It ended the session."""
    large = HEADER.pack(ROOM + 1, opcode, 8, ELSEWHERE, 0, 0, 0, 0, 0).ljust(ROOM + 1, b"x")
    rig.lane.hold([large, HEADER.pack(HEADER.size, READLINK, 10, ELSEWHERE, 0, 0, 0, 0, 0)])
    assert rig.step() == LaneEvent.NOTHING
    assert rig.answer() == (None if opcode == FORGET else (8, errno.EIO, b""))
    assert rig.step() == LaneEvent.REQUEST and libfuse.read() is not None


def test_a_write_that_is_answered_is_for_nobody_else(rig: Rig, libfuse: Libfuse) -> None:
    unique = rig.request(WRITE, ELSEWHERE, struct.pack("=QQIIQII", 9, 0, 4, 0, 0, 0, 0) + b"data")
    assert (rig.step(), rig.step()) == (LaneEvent.WRITE, LaneEvent.REQUEST)
    rig.lane.written(0, 4)
    assert rig.answer() == (unique, 0, struct.pack("=II", 4, 0))
    rig.request(WRITE, ELSEWHERE, struct.pack("=QQIIQII", 9, 0, 4, 0, 0, 0, 0) + b"data")
    assert rig.step() == LaneEvent.WRITE
    assert libfuse.read() is None and len(rig.lane.writing()[2]) == 4


def test_nobody_answers_for_a_lane_that_is_closed(libfuse: Libfuse) -> None:
    with Rig() as rig:
        assert rig.lane.in_memory(FD)
        unique = rig.request(READLINK, ELSEWHERE)
        assert rig.step() == LaneEvent.REQUEST
    assert libfuse.read() is None
    assert libfuse.answer(unique) == -1 and ctypes.get_errno() == errno.ENOENT


def test_a_second_lane_of_a_process_and_one_whose_libfuse_refuses_use_the_pair(rig: Rig, libfuse: Libfuse) -> None:
    with Rig() as other:
        assert not other.lane.in_memory(FD)
        other.request(READLINK, ELSEWHERE)
        assert other.step() == LaneEvent.REQUEST and other.passed() is not None
    rig.lane.close()
    libfuse.close()
    with Rig() as third:
        assert not third.lane.in_memory(FD)
        refusing = Libfuse(refuses=True)
        assert not third.lane.in_memory(FD)
        refusing.close()
