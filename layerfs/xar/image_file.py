"""A file that holds a squashfs image, bare or behind a XAR's header: opened, recognised, and where the image begins.

It lies on the way of every mount: one pread(2), and it imports nothing.
"""

import os
import stat

from layerfs.errors import InvalidArgument
from layerfs.xar.header import LONGEST, MAGIC, STOP, parse_header


class NotImage(InvalidArgument):
    """A file that is neither a squashfs image nor a XAR."""


def image_offset(path: bytes, asked: int | None = None) -> int:
    """Return where the squashfs image of a file begins [bytes]: 0 for a bare one, else what its XAR header says.

    Raises NotImage for any other file, Corrupt for a bad header, OSError.
    """
    fd = open_image(path)
    try:
        return offset_of(fd, path, asked)
    finally:
        os.close(fd)


def open_image(path: bytes) -> int:
    """Open a regular file or a block device for reading. Anything else is NotImage, and not opened; OSError."""
    _refuse_kind(os.stat(path), path)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)  # it may be another one by now
    try:
        _refuse_kind(os.fstat(fd), path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _refuse_kind(st: os.stat_result, name: bytes) -> None:
    if not (stat.S_ISREG(st.st_mode) or stat.S_ISBLK(st.st_mode)):
        raise NotImage(f"{os.fsdecode(name)} is not a regular file", "name a squashfs image or a XAR")


def offset_of(fd: int, name: bytes, asked: int | None = None) -> int:
    """Return where the squashfs image of an open file begins [bytes]; `name` is for messages.

    `asked` is where the user says that it does, as in an AppImage; a XAR's header counts more.
    Raises as `image_offset` does.
    """
    _refuse_kind(os.fstat(fd), name)
    data = os.pread(fd, LONGEST + len(MAGIC), 0)
    if not asked and data.startswith(MAGIC):
        return 0
    if _looks_like_xar(data):
        return parse_header(data, name).offset
    if not asked:
        raise NotImage(f"{os.fsdecode(name)} is neither a squashfs image nor a XAR")
    if os.pread(fd, len(MAGIC), asked) != MAGIC:
        hint = "the offset is in bytes, from the beginning of the file"
        raise NotImage(f"{os.fsdecode(name)} has no squashfs image at byte {asked}", hint)
    return asked


def is_xar(fd: int) -> bool:
    """Tell whether a file means to be a XAR; its header may still be found corrupt."""
    return _looks_like_xar(os.pread(fd, LONGEST, 0))


def _looks_like_xar(data: bytes) -> bool:
    return not data.startswith(MAGIC) and (STOP in data or (data.startswith(b"#!") and b'\nOFFSET="' in data))
