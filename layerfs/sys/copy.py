"""File data from one descriptor to another, as cheaply as the filesystems allow; holes stay holes."""

import errno
import fcntl
import os
from collections.abc import Callable

FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
CHUNK = 1 << 20  # bytes; what one copy_file_range or read moves at most

SMALL = 64 << 10  # bytes; up to this a read and a write cost less than copy_file_range's set-up

_REFUSED = {errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY, errno.EBADF, errno.EPERM}


_unclonable: set[tuple[int, int]] = set()  # (source, target) devices that have refused a reflink


Progress = Callable[[int], None]


def nothing(_done: int) -> None:
    """Report no progress of a copy."""


def copy_data(source: int, target: int, size: int, progress: Progress = nothing) -> None:
    """Copy the first `size` bytes of a file into an empty one; the target ends up exactly `size` bytes long.

    Reflinks if the whole file is asked for and both live on one filesystem that can; else copies the data extents only.
    `progress` is called with the offset after each CHUNK; an exception of it ends the copy.
    Raises OSError (ENOSPC, EDQUOT, EIO) with the target half-written: the caller throws it away.
    """
    if size == 0:
        return
    st = os.fstat(source)
    if st.st_size == size and _reflink(source, target, st.st_dev):
        return
    if st.st_blocks * 512 >= st.st_size >= size:  # no holes to look for
        if size <= SMALL and os.pwrite(target, os.pread(source, size, 0), 0) == size:
            return
        if _copy_range(source, target, 0, size, progress) == size:
            return
    os.ftruncate(target, size)
    offset = 0
    while offset < size:
        extent = _next_data(source, offset, size)
        if extent is None:
            return
        offset = _copy_range(source, target, *extent, progress)


def _reflink(source: int, target: int, device: int) -> bool:
    pair = device, os.fstat(target).st_dev
    if pair in _unclonable:
        return False
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as error:
        if error.errno in _REFUSED:
            _unclonable.add(pair)
            return False
        raise
    return True


def _next_data(source: int, offset: int, size: int) -> tuple[int, int] | None:
    """Return [start, end) of the next extent that holds data, or None when only a hole is left."""
    try:
        start = os.lseek(source, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        if error.errno == errno.EINVAL:  # a filesystem that knows no holes
            return offset, size
        raise
    if start >= size:
        return None
    return start, min(os.lseek(source, start, os.SEEK_HOLE), size)


def _copy_range(source: int, target: int, start: int, end: int, progress: Progress) -> int:
    """Copy [start, end) and return where it stopped: the source may be shorter than it was."""
    offset = start
    while offset < end:
        count = _copy_once(source, target, offset, min(CHUNK, end - offset))
        if count == 0:
            return end
        offset += count
        progress(offset)
    return offset


def _copy_once(source: int, target: int, offset: int, count: int) -> int:
    return copy_some(source, target, count, offset, offset)


def copy_some(source: int, target: int, count: int, at: int, to: int) -> int:
    """Copy up to `count` bytes from `at` in one file to `to` in another; return how many, 0 at the end of the source.

    The filesystem may share the blocks. Where it copies nothing by itself, at most CHUNK is read and written.
    """
    try:
        done = os.copy_file_range(source, target, count, at, to)
        if done:
            return done
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
    return write_all(target, os.pread(source, min(count, CHUNK), at), to)


def write_all(fd: int, data: bytes | memoryview, offset: int) -> int:
    """Write all of `data` at `offset` and return its length; OSError with some of it written."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done
    return len(data)


def write_or_undo(fd: int, data: bytes | memoryview, offset: int) -> int:
    """Write as `write_all` does; if that fails with some of it written, the file becomes as long as it was before.

    Nobody else may write to the file meanwhile.
    """
    size = os.fstat(fd).st_size
    try:
        return write_all(fd, data, offset)
    except OSError:
        if os.fstat(fd).st_size > size:
            os.ftruncate(fd, size)
        raise
