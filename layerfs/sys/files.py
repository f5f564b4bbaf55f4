"""Small files: read or written whole, and opened so that no FIFO or device in their place can hold us."""

import errno
import os
import stat
from contextlib import suppress
from typing import Final

_CHUNK: Final = 1 << 14  # bytes; most of what is read is much smaller


def content(path: str | bytes) -> bytes:
    """Return what is in a file, as of /proc: at a third of the price of a file object. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = list(iter(lambda: os.read(fd, _CHUNK), b""))
    finally:
        os.close(fd)
    return b"".join(parts)


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


class NotRegular(OSError):
    """What was to be opened is no regular file: EINVAL."""


def open_regular(path: bytes, flags: int = os.O_RDONLY, *, at: int | None = None) -> int:
    """Open a regular file, without ever waiting for a FIFO or a device. Raises NotRegular for anything else; OSError.

    The last name may be a symlink unless `flags` have O_NOFOLLOW.
    """
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=at)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise NotRegular(errno.EINVAL, "not a regular file", path)
