"""An image's answers for who calls them from C, called from here."""

from typing import Any

from layerfs.pysquashfs import SquashfsImage
from layerfs.pysquashfs._squashfs import ffi

STATUS = 144  # bytes; of a struct stat on x86-64, which is the largest
NUMBER = 8  # where st_ino stands in it, on each machine of 64 bits


class Answering:
    """Calls the functions of one image by their addresses. An answer below 0 is an OSError without a number."""

    def __init__(self, image: SquashfsImage) -> None:
        self._calls = image.calls()
        self._of = ffi.cast("void *", self._calls.image)
        self._stat = ffi.cast("int64_t (*)(void *, uint64_t, void *)", self._calls.stat)
        self._read = ffi.cast("int64_t (*)(void *, uint64_t, uint64_t, void *, uint32_t)", self._calls.read)
        self._link = ffi.cast("int64_t (*)(void *, uint64_t, char *, uint32_t)", self._calls.link)

    def stat(self, ref: int) -> tuple[bool, int]:
        """Whether there are extended attributes, and the number."""
        status = ffi.new("unsigned char[]", STATUS)
        has_xattrs = _checked(self._stat(self._of, ref, status))
        return bool(has_xattrs), int.from_bytes(bytes(status[NUMBER : NUMBER + 8]), "little")

    def read(self, ref: int, offset: int, size: int) -> bytes:
        data = ffi.new("unsigned char[]", size or 1)
        return bytes(ffi.buffer(data, _checked(self._read(self._of, ref, offset, data, size))))

    def link(self, ref: int, room: int) -> bytes:
        target = ffi.new("char[]", room)
        return bytes(ffi.buffer(target, _checked(self._link(self._of, ref, target, room))))


def _checked(answer: Any) -> int:
    if answer < 0:
        raise OSError(f"answered {answer}")
    return int(answer)
