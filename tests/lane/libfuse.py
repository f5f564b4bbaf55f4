"""libfuse with functions of its user's for reading and writing: the other side of layerfs/lane/memory.c."""

import ctypes
import errno
from collections.abc import Sequence

from layerfs.lane import _lane
from tests.lane.rig import REPLY

FD, ROOM = 7, 1 << 16


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
        buffer = ctypes.create_string_buffer(max(room, 1))
        size = self.doors.read(FD, ctypes.cast(buffer, ctypes.c_char_p), room, None)
        if size < 0:
            assert ctypes.get_errno() == errno.EAGAIN
            return None
        return buffer.raw[:size]

    def answer(self, unique: int, *bodies: bytes, error: int = 0) -> int:
        return self.write((REPLY.pack(REPLY.size + sum(map(len, bodies)), -error, unique), *bodies))

    def write(self, message: Sequence[bytes]) -> int:
        """Answer by these parts, whatever they are."""
        assert self.doors is not None
        parts = (Part * max(len(message), 1))(*(Part(each, len(each)) for each in message))
        return int(self.doors.write(FD, parts, len(message), None))
