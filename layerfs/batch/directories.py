"""Directories as Python has them read: many at one call, with their names and kinds."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from layerfs.batch._batch import ffi, lib

COLD: Final = 40_000  # ns; what takes longer, and sleeps, has waited for a disk
SELF: Final = b""  # as a name: the open directory itself


class Listed(NamedTuple):
    """A directory that was opened, or that could not be (`fd` is -1).

    `names` is None where not all of it is plain files, symlinks and directories, or there are very many: then somebody
    is to look closer. `kinds` has a byte for each name, 1 for a directory.
    """

    fd: int
    has_xattrs: bool
    names: list[bytes] | None
    kinds: bytes


def read(wanted: Sequence[tuple[int, bytes]], cold: int = COLD) -> tuple[list[Listed], bool]:
    """Open and read directories, each a name in an open directory, or `SELF` for that one; nothing is followed.

    Once one had to sleep for more than `cold` [ns] the others are read side by side; below 0 they are so at once.
    Second: whether one had to. The descriptors are the caller's. MemoryError, with nothing left open.
    """
    count = len(wanted)
    listed, found = ffi.new("struct batch_listed[]", count), ffi.new("struct batch_names *")
    names = b"".join([name + b"\0" for _, name in wanted])
    waited = lib.batch_read(ffi.new("int[]", [at for at, _ in wanted]), names, count, cold, listed, found)
    if waited < 0:
        raise MemoryError
    try:
        text = bytes(ffi.buffer(found.text, found.size)).split(b"\0")
        kinds = bytes(ffi.buffer(found.text + found.size, found.count))
    finally:
        lib.batch_read_free(found)
    return list(_each(ffi.unpack(ffi.cast("int32_t *", listed), 3 * count), text, kinds)), bool(waited)


def _each(numbers: list[int], text: list[bytes], kinds: bytes) -> Iterator[Listed]:
    """Yield each directory with its part of what was found."""
    at = 0
    for fd, marked, count in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
        if count < 0:
            yield Listed(fd, bool(marked), None, b"")
        else:
            yield Listed(fd, bool(marked), text[at : at + count], kinds[at : at + count])
            at += count


class Ahead:
    """Threads that look at directories before anybody asks for them, as long as a disk is waited for."""

    def __init__(self) -> None:
        self._ahead: Any = lib.batch_ahead_start()
        if self._ahead == ffi.NULL:
            raise MemoryError

    def ask(self, root: int, path: bytes) -> bool:
        """Have a directory looked at, by its path below an open one, which stays open; False: not now."""
        return bool(lib.batch_ahead_ask(self._ahead, root, path))

    def waited(self) -> None:
        """Note that a disk had to be waited for."""
        lib.batch_ahead_waited(self._ahead)

    def close(self) -> None:
        """End the threads; nothing may be asked afterwards."""
        ahead, self._ahead = self._ahead, ffi.NULL
        if ahead != ffi.NULL:
            lib.batch_ahead_end(ahead)
