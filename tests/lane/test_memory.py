"""Requests for libfuse handed over in memory (layerfs/lane/memory.c), as each session's are; the test is libfuse."""

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.lane import _lane
from layerfs.lane.events import LaneEvent
from tests.lane.rig import FORGET, HEADER, OPENDIR, READLINK, REPLY, Rig

FD, ROOM, ELSEWHERE = 7, 1 << 16, 54321
INTERRUPT = 36


class Part(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_char_p), ("size", ctypes.c_size_t))


WRITER = ctypes.CFUNCTYPE(
    ctypes.c_ssize_t, ctypes.c_int, ctypes.POINTER(Part), ctypes.c_int, ctypes.c_void_p, use_errno=True
)
READER = ctypes.CFUNCTYPE(
    ctypes.c_ssize_t, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, use_errno=True
)


class Doors(ctypes.Structure):
    """struct fuse_custom_io."""

    _fields_ = (("write", WRITER), ("read", READER))


TAKER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(Doors), ctypes.c_int)


class Libfuse:
    """A session that reads and writes by what it was given."""

    def __init__(self, refuses: bool = False) -> None:
        self._refuses = refuses
        self.doors: Doors | None = None
        self._taker = TAKER(self._take)
        library = ctypes.CDLL(_lane.__file__)
        self._session = ctypes.c_void_p.in_dll(library, "layerfs_session")
        self._function = ctypes.c_void_p.in_dll(library, "layerfs_custom_io")
        self._session.value, self._function.value = 1, ctypes.cast(self._taker, ctypes.c_void_p).value

    def _take(self, session: int, doors: "ctypes._Pointer[Doors]", fd: int) -> int:
        assert (session, fd) == (1, FD)
        if not self._refuses:
            self.doors = Doors(doors.contents.write, doors.contents.read)
        return -self._refuses

    def close(self) -> None:
        self._session.value = self._function.value = None

    def read(self, room: int = ROOM) -> bytes | None:
        assert self.doors is not None
        buffer = ctypes.create_string_buffer(ROOM)
        size = self.doors.read(FD, ctypes.cast(buffer, ctypes.c_char_p), room, None)
        if size < 0:
            assert ctypes.get_errno() == errno.EAGAIN
            return None
        return buffer.raw[:size]

    def answer(self, unique: int, *bodies: bytes, error: int = 0) -> int:
        assert self.doors is not None
        head = REPLY.pack(REPLY.size + sum(map(len, bodies)), -error, unique)
        parts = (Part * (1 + len(bodies)))(*(Part(each, len(each)) for each in (head, *bodies)))
        return int(self.doors.write(FD, parts, len(parts), None))


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


@pytest.mark.parametrize(("error", "flags"), [(0, 0b1010), (errno.EACCES, None)])
def test_the_kernel_keeps_a_listing_that_libfuse_opens(
    rig: Rig, libfuse: Libfuse, error: int, flags: int | None
) -> None:
    unique = rig.request(OPENDIR, ELSEWHERE, bytes(8))
    assert rig.step() == LaneEvent.REQUEST and libfuse.read() is not None
    libfuse.answer(unique, *([struct.pack("=QIi", 9, 0, 0)] if not error else []), error=error)
    assert rig.answer() == (unique, error, b"" if flags is None else struct.pack("=QIi", 9, flags, 0))


def test_a_request_that_libfuse_has_no_room_for_fails(rig: Rig, libfuse: Libfuse) -> None:
    unique = rig.request(READLINK, ELSEWHERE)
    assert rig.step() == LaneEvent.REQUEST and libfuse.read(HEADER.size - 1) is None
    assert rig.answer() == (unique, errno.EIO, b"")
    assert rig.step() == LaneEvent.NOTHING


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
