"""Small files: written whole or not at all, and opened so that no FIFO or device in their place can hold us."""

import ctypes
import errno
import os
import stat
from contextlib import suppress
from typing import Final

from layerfs.sys.libc import call

FUSE_MAGIC: Final = 0x65735546  # FUSE_SUPER_MAGIC, linux/magic.h
_STATFS_ROOM: Final = 256  # bytes; no architecture's struct statfs has more


def write_whole(path: bytes, content: bytes, mode: int = 0o600) -> None:
    """Give a file its content by one rename, in a directory that only we can write to; nobody sees a part of it.

    A crash of the machine may leave the old content or the new one: it is not synced. Raises OSError.
    """
    draft = b"%s.%d" % (path, os.getpid())
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with open(fd, "wb") as file:
            file.write(content)
        os.rename(draft, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(draft)
        raise


def open_regular(path: bytes, flags: int = os.O_RDONLY, *, at: int | None = None) -> int:
    """Open a regular file; OSError with EINVAL for anything else, which is never waited for.

    The last name may be a symlink unless `flags` have O_NOFOLLOW. Raises OSError.
    """
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=at)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "not a regular file", path)


def write_back(directory: bytes, *, only_fuse: bool = False) -> None:
    """Write back everything of the filesystem that is mounted at a directory: a lazy unmount does not.

    A FUSE mount is asked by this, and may never answer. With `only_fuse` anything else there is an error (ENODEV).
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if only_fuse and filesystem_type(fd) != FUSE_MAGIC:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), directory)
        syncfs(fd)
    finally:
        os.close(fd)


def syncfs(fd: int) -> None:
    """Write back everything of the filesystem that a descriptor is in; a FUSE server is handed what is dirty."""
    call("syncfs", fd)


def filesystem_type(fd: int) -> int:
    """Return the magic number of the filesystem that a descriptor is in (statfs(2), f_type)."""
    buffer = ctypes.create_string_buffer(_STATFS_ROOM)
    call("fstatfs", fd, buffer)
    return ctypes.c_long.from_buffer(buffer).value


def allocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Do what fallocate(2) does; the C library's posix_fallocate would write zeros where a filesystem cannot."""
    call("fallocate", fd, mode, offset, length)
