"""The attributes that stat shows: as the layer has them, or with some replaced."""

import os
from typing import Final

BLOCK: Final = 512  # bytes; what st_blocks counts (stat(2))


class Shown:
    """A stat_result with some fields replaced."""

    __slots__ = (
        "st_atime_ns",
        "st_blksize",
        "st_blocks",
        "st_ctime_ns",
        "st_dev",
        "st_gid",
        "st_ino",
        "st_mode",
        "st_mtime_ns",
        "st_nlink",
        "st_rdev",
        "st_size",
        "st_uid",
    )
    st_ino: int
    st_dev: int
    st_mode: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_rdev: int
    st_size: int
    st_blocks: int
    st_blksize: int
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int

    def __init__(self, st: "os.stat_result | Shown", nlink: int | None = None, blocks: int | None = None) -> None:
        for field in Shown.__slots__:
            setattr(self, field, getattr(st, field))
        if nlink is not None:
            self.st_nlink = nlink
        if blocks is not None:
            self.st_blocks = blocks


Attributes = os.stat_result | Shown


def has_holes(st: Attributes) -> bool:
    """Tell whether a file has fewer blocks than its size needs."""
    return st.st_blocks * BLOCK < st.st_size


def fingerprint(st: Attributes) -> int:
    """Return what tells an object, its owner and its mode from any other: all that a permission check depends on.

    An inode number alone does not: a filesystem gives it to the next file once its file is gone.
    """
    return hash((st.st_dev, st.st_ino, st.st_mode, st.st_uid, st.st_gid)) or 1


def fingerprint_of(device: int, number: int, mode: int, uid: int, gid: int) -> int:
    """Return the fingerprint of an object of which only this is known."""
    return hash((device, number, mode, uid, gid)) or 1
