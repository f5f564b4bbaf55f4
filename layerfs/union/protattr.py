"""Inode flags that a copy-up owes to its original (fs/overlayfs/copy_up.c, ovl_copy_fileattr).

Synchronous and without access times are copied. Immutable and append-only would keep the overlay from its own file, so
they are noted in an xattr of the copy, where kernel overlayfs finds them.
"""

import struct
from contextlib import suppress
from typing import Final

from layerfs.sys import dirs, file_attr
from layerfs.sys.file_attr import APPEND, GETFLAGS, IMMUTABLE, NOATIME, SETFLAGS, SYNC
from layerfs.union.state import Overlay, Writable

PROTECTED: Final = "protattr"  # below the marks' prefix: "a", "i" or both (fs/overlayfs/util.c)
_LETTERS: Final = {APPEND: b"a", IMMUTABLE: b"i"}
_WORD: Final = struct.Struct("=I")


def copy_flags(ov: Writable, source: int, copy: int) -> None:
    """Give the copy of a file its original's flags, as far as the upper has them."""
    with suppress(OSError):  # ENOTTY: a filesystem without flags; a copy without them is still a copy
        (flags,) = _WORD.unpack(file_attr.read(source, GETFLAGS))
        noted = b"".join(letter for bit, letter in _LETTERS.items() if flags & bit)
        if noted and ov.upper.marks.xattrs:
            dirs.set_own_xattr(copy, ov.upper.marks.prefix + PROTECTED, noted)
        if flags & (SYNC | NOATIME):
            (own,) = _WORD.unpack(file_attr.read(copy, GETFLAGS))
            file_attr.write(copy, SETFLAGS, _WORD.pack(own & ~(SYNC | NOATIME) | flags & (SYNC | NOATIME)))


def noted_flags(ov: Overlay, fd: int) -> int:
    """Return the flags that are noted on an upper object."""
    if ov.upper is None:
        return 0
    noted = dirs.getxattr_or_none(fd, ov.upper.marks.prefix + PROTECTED) or b""
    return sum(bit for bit, letter in _LETTERS.items() if letter in noted)
