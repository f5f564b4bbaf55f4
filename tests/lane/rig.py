"""A lane between two socket pairs: one stands for the kernel's device, the other for libfuse."""

import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from layerfs.lane.events import LaneEvent
from layerfs.lane.lane import Lane

HEADER = struct.Struct("=IIQQIIIHH")  # fuse_in_header
REPLY = struct.Struct("=IiQ")  # fuse_out_header
ENTRY = struct.Struct("=QQQQII")
LOOKUP, FORGET, GETATTR, READLINK, OPEN, READ, RELEASE, READDIR, READDIRPLUS = 1, 2, 3, 5, 14, 15, 18, 28, 44
BATCH_FORGET, GETXATTR, WRITE, CREATE, SETATTR, UNLINK, RENAME, RENAME2 = 42, 22, 16, 35, 4, 10, 12, 45
SYMLINK, MKDIR, SETXATTR, REMOVEXATTR, FLUSH = 6, 9, 21, 24, 25
ROOM = 1 << 16
RANK_SHIFT = 49
HOME = 77  # the number of the directory that a test hands over


class Rig:
    """The test is the kernel at `kernel`, and libfuse at `libfuse`."""

    def __init__(self, files: int = 16, *, pair: bool = True) -> None:
        self.kernel, self.device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours, self.libfuse = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.kernel, self.device, self.ours, self.libfuse):
            end.setblocking(False)
        self.lane = Lane(self.device.fileno(), self.ours.fileno() if pair else -1, ROOM, 5_000_000_000, files)
        self.lane.set_raw(())  # every lane of the process has the same, and another test may have opened a server's
        self.unique = 0
        self.fds: list[int] = []

    def request(self, opcode: int, node: int, body: bytes = b"", uid: int = 0, thread: int = 1) -> int:
        """Ask as the kernel does; return the request's number."""
        self.unique += 2
        self.kernel.send(HEADER.pack(HEADER.size + len(body), opcode, self.unique, node, uid, 0, thread, 0, 0) + body)
        return self.unique

    def step(self) -> LaneEvent:
        """Let the lane answer what is there."""
        return self.lane.wait(-1, -1, 0, spin=False)

    def answer(self) -> tuple[int, int, bytes] | None:
        """Return an answer's number, errno and body; None if there is none."""
        with suppress(BlockingIOError):
            message = self.kernel.recv(ROOM * 2)
            size, error, unique = REPLY.unpack_from(message)
            assert size == len(message)
            return unique, -error, message[REPLY.size :]
        return None

    def passed(self) -> bytes | None:
        """Return what was put on the pair."""
        with suppress(BlockingIOError):
            return self.libfuse.recv(ROOM * 2)
        return None

    def ask(self, opcode: int, node: int, body: bytes = b"", uid: int = 0) -> tuple[int, bytes] | None:
        """Ask and return errno and body; None if the request was passed on, and taken."""
        unique = self.request(opcode, node, body, uid)
        if self.step() == LaneEvent.REQUEST:
            assert self.passed() is not None
            return None
        while (found := self.answer()) is not None:
            if found[0] == unique:
                return found[1], found[2]
        raise AssertionError("no answer")

    def hand_over(self, number: int, place: Path, names: Sequence[bytes], places: Sequence[int] | None = None) -> int:
        """Hand over a directory of one share; return the share's descriptor."""
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        self.fds.append(fd)
        self.lane.rank(os.fstat(fd).st_dev, 3)
        assert self.lane.directory(number, 1, names, [0] * len(names) if places is None else places, [fd])
        return fd

    def close(self) -> None:
        self.lane.close()
        for end in (self.kernel, self.device, self.ours, self.libfuse):
            end.close()
        for fd in self.fds:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def number_of(path: Path) -> int:
    """The number that a file of a handed directory has."""
    return 3 << RANK_SHIFT | path.lstat().st_ino


def dirents(body: bytes, *, plus: bool) -> list[tuple[int, int, int, bytes]]:
    """Take a listing apart: node (0 without `plus`), number, offset and name of each."""
    found, at = [], 0
    while at < len(body):
        node = ENTRY.unpack_from(body, at)[0] if plus else 0
        at += 128 * plus
        number, offset, size, _ = struct.unpack_from("=QQII", body, at)
        found.append((node, number, offset, body[at + 24 : at + 24 + size]))
        at += (24 + size + 7) // 8 * 8
    return found


def lookup(rig: Rig, name: bytes) -> tuple[int, int] | None:
    """The node and size that a lookup answers; None if it was passed on."""
    found = rig.ask(LOOKUP, HOME, name + b"\0")
    if found is None:
        return None
    assert found[0] == 0
    node, _, valid, *_ = ENTRY.unpack_from(found[1])
    assert valid == 5
    return node, struct.unpack_from("=Q", found[1], ENTRY.size + 8)[0]
