"""A source for a lane in the place of an image's C: it shows files of a directory as if they were in an image."""

import ctypes
import errno
import os
from pathlib import Path
from typing import Final

from layerfs.lane.lane import SourceCalls

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_STAT: Final = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p)
_READ: Final = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint32
)
_LINK: Final = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_void_p, ctypes.c_uint64, ctypes.POINTER(ctypes.c_char), ctypes.c_uint32
)
NUMBER: Final = 8  # where st_ino stands in a struct stat of a 64-bit machine
FIRST: Final = 100  # the number of the first name


class Source:
    """Has the files of a directory by their places among `names`, with numbers from FIRST on."""

    def __init__(self, place: Path, names: list[bytes]) -> None:
        self.place, self.names = place, names
        self.numbers = {name: FIRST + index for index, name in enumerate(names)}
        self.has_xattrs: set[bytes] = set()
        self.asked: list[int] = []
        self.link_length = 0  # that is said, if it is not the link's own
        self.reads = True
        self.most = 1 << 20  # bytes of a file that is read here
        self._calls = _STAT(self.stat), _LINK(self.link), _READ(self.read)

    @property
    def calls(self) -> SourceCalls:
        stat, link, read = (ctypes.cast(call, ctypes.c_void_p).value or 0 for call in self._calls)
        return SourceCalls(0, stat, link, read if self.reads else 0, self._calls)

    def _name(self, reference: int) -> bytes:
        self.asked.append(reference)
        return self.names[reference] if reference < len(self.names) else b"nothing"

    def stat(self, _of: int, reference: int, status: int) -> int:
        name = self._name(reference)
        if _LIBC.lstat(os.fsencode(self.place) + b"/" + name, ctypes.c_void_p(status)):
            return -errno.EIO
        ctypes.c_uint64.from_address(status + NUMBER).value = self.numbers[name]
        return name in self.has_xattrs

    def link(self, _of: int, reference: int, target: "ctypes._Pointer[ctypes.c_char]", room: int) -> int:
        try:
            found = os.readlink(os.fsencode(self.place) + b"/" + self._name(reference))
        except OSError:
            return -errno.EIO
        if len(found) > room:
            return -errno.EIO
        ctypes.memmove(target, found, len(found))
        return self.link_length or len(found)

    def read(self, _of: int, reference: int, offset: int, data: int, size: int) -> int:
        try:
            whole = (self.place / os.fsdecode(self._name(reference))).read_bytes()
        except OSError:
            return -errno.EIO
        if len(whole) > self.most:
            return -errno.EIO
        found = whole[offset : offset + size]
        ctypes.memmove(data, found, len(found))
        return len(found)
