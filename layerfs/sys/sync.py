"""A filesystem as a whole: its type, and what was written to it brought to disk; the names in one directory, too."""

import ctypes
import errno
import os
from typing import Final

from layerfs.sys.libc import call

FUSE_MAGIC: Final = 0x65735546  # FUSE_SUPER_MAGIC, linux/magic.h
_STATFS_ROOM: Final = 256  # bytes; no architecture's struct statfs has more
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def syncfs(fd: int) -> None:
    """Write back everything of the filesystem that a descriptor is in; a FUSE server is handed what is dirty."""
    call("syncfs", fd)


def sync_filesystem(path: bytes, *, only_fuse: bool = False) -> None:
    """Return when all that was written to the filesystem of a directory is on disk (syncfs(2)).

    A FUSE mount is asked by this, and may never answer. With `only_fuse` anything else there is an error (ENODEV).
    """
    fd = os.open(path, _DIRECTORY)
    try:
        if only_fuse and filesystem_type(fd) != FUSE_MAGIC:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), path)
        syncfs(fd)
    finally:
        os.close(fd)


def sync_names(path: bytes) -> None:
    """Return when the names in a directory are on disk."""
    fd = os.open(path, _DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def filesystem_type(which: int | bytes) -> int:
    """Return the magic number of the filesystem that a descriptor, or a path, is in (statfs(2), f_type)."""
    buffer = ctypes.create_string_buffer(_STATFS_ROOM)
    if isinstance(which, int):
        call("fstatfs", which, buffer)
    else:
        call("statfs", which, buffer, path=which)
    return ctypes.c_long.from_buffer(buffer).value
