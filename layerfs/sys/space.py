"""Room on a filesystem: whether there is any; taken, kept or given back for a file that is to grow or to change."""

import fcntl
import os
import struct
from contextlib import suppress
from typing import Final

from layerfs.errors import FULL

_KEEP_SIZE: Final = 1  # FALLOC_FL_KEEP_SIZE, linux/falloc.h
_GET, _SET = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS
_NOCOW: Final = 0x00800000  # FS_NOCOW_FL, linux/fs.h
_TRIED: Final = 64 << 10  # bytes


def full(directory: bytes) -> int:
    """Return the errno with which a new file in a directory is refused room; 0 if it gets some, or that is not known.

    For programs that say only "I/O error". The file has no name and is gone at once.
    """
    try:
        fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, _TRIED)
        finally:
            os.close(fd)
    except OSError as error:
        return error.errno if error.errno in FULL else 0
    return 0


def keep_room(fd: int, size: int) -> None:
    """Have the first `size` bytes of an open file take their room now, whatever its length is, which stays.

    What is written there later finds room on a full filesystem, too. One that cannot do so, or is full, is fine.
    """
    if os.fstat(fd).st_blocks * 512 < size:
        with suppress(OSError):
            allocate(fd, _KEEP_SIZE, 0, size)


def allocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Do what fallocate(2) does; the C library's posix_fallocate would write zeros where a filesystem cannot."""
    from layerfs.sys import libc  # and ctypes, which a store needs only when it was just made

    libc.call("fallocate", fd, mode, offset, length)


def make_in_place(path: bytes) -> None:
    """Make an empty file, 0600, that can be overwritten even on a full filesystem. A file that exists stays.

    btrfs writes what is changed to another place, and a program that changes a page of a mapped file on a full btrfs
    is killed (SIGBUS). Files with this flag it changes where they are, and keeps no checksums of them.
    """
    with suppress(FileExistsError):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            (flags,) = struct.unpack("l", fcntl.ioctl(fd, _GET, bytes(8)))
            fcntl.ioctl(fd, _SET, struct.pack("l", flags | _NOCOW))
        except OSError:  # any other filesystem
            return
        finally:
            os.close(fd)
