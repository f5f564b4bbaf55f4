"""The batch as Python sees it: one call, which writes as many entries as it can."""

import os
from typing import Any, Final, NamedTuple

from layerfs.batch._batch import ffi, lib

ROOM: Final = 1024  # entries of one call


class Written(NamedTuple):
    """What a call wrote: where the headers are in the data, where the next one is, and the bytes of the files."""

    headers: list[int]
    next: int
    size: int


class Batch:
    """Writes for one process, whose owner its files have without being told; one call at a time."""

    def __init__(self) -> None:
        self._owner = os.geteuid()
        self._places: Any = ffi.new("uint32_t[]", ROOM)
        self._done: Any = ffi.new("struct batch_done *")

    def write(self, directory: int, data: bytes, at: int, prefix: bytes, most: int, entries: int) -> Written:
        """Write entries from `at` on whose names are `prefix` and one part more, within bounds on bytes and entries.

        An entry that is not plain ends it, and so does one that cannot be written, of which nothing stays.
        """
        done = self._done
        room = min(entries, ROOM)
        lib.batch_write(
            directory, self._owner, ffi.from_buffer(data), len(data), at, prefix, len(prefix), most, self._places, room,
            done,
        )  # fmt: skip
        return Written(ffi.unpack(self._places, done.entries), done.next, done.bytes)
