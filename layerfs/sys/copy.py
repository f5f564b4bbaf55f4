"""File data from one descriptor to another, as cheaply as the filesystems allow; holes stay holes."""

import ctypes
import errno
import fcntl
import os
import sys

from layerfs.sys import libc

FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
CHUNK = 1 << 20  # bytes; what one copy_file_range or read moves at most

SMALL = 64 << 10  # bytes; up to this a read and a write cost less than copy_file_range's set-up
EXT4 = 0xEF53  # linux/magic.h: EXT4_SUPER_MAGIC
SYNC_FILE_RANGE_WRITE = 2  # sync_file_range(2)
SYNC_FILE_RANGE_ALL = 7  # wait for what is under way, write, wait

_REFUSED = {errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY, errno.EBADF, errno.EPERM}


_unclonable: set[tuple[int, int]] = set()  # (source, target) devices that have refused a reflink


def copy_data(source: int, target: int, size: int) -> None:
    """Copy the first `size` bytes of a file into an empty one; the target ends up exactly `size` bytes long.

    Reflinks if the whole file is asked for and both live on one filesystem that can; else copies the data extents only.
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
        if _copy_range(source, target, 0, size) == size:
            return
    os.ftruncate(target, size)
    offset = 0
    while offset < size:
        extent = _next_data(source, offset, size)
        if extent is None:
            return
        offset = _copy_range(source, target, *extent)


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


def _copy_range(source: int, target: int, start: int, end: int) -> int:
    """Copy [start, end) and return where it stopped: the source may be shorter than it was."""
    offset = start
    while offset < end:
        count = _copy_once(source, target, offset, min(CHUNK, end - offset))
        if count == 0:
            return end
        offset += count
    return offset


def _copy_once(source: int, target: int, offset: int, count: int) -> int:
    try:
        done = os.copy_file_range(source, target, count, offset, offset)
        if done:
            return done
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
    return write_all(target, os.pread(source, count, offset), offset)


def write_all(fd: int, data: bytes | memoryview, offset: int) -> int:
    """Write all of `data` at `offset` and return its length; OSError with some of it written."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done
    return len(data)


_ordered: dict[int, bool] = {}  # device -> whether its filesystem is ext4


def begin_settling(fd: int) -> None:
    """Start to write a fresh file's data to disk; `settle` then has less to wait for."""
    if _keeps_order(fd):
        libc.call("sync_file_range", fd, 0, 0, SYNC_FILE_RANGE_WRITE)


def settle(fd: int) -> None:
    """See to it that a fresh file's data are on disk before a rename that follows, as far as a power cut can tell.

    On ext4 it is enough to wait for the data alone: the journal brings the new size (data=ordered, and dioread_nolock,
    where the size follows the data's end) no later than the rename, and flushes the disk's cache before it commits.
    That takes half of fdatasync(2), which commits the journal by itself, and is what it takes elsewhere.
    """
    if _keeps_order(fd):
        libc.call("sync_file_range", fd, 0, 0, SYNC_FILE_RANGE_ALL)
    else:
        os.fdatasync(fd)


def _keeps_order(fd: int) -> bool:
    device = os.fstat(fd).st_dev
    if device not in _ordered:
        _ordered[device] = _is_ext4(fd)
    return _ordered[device]


def _is_ext4(fd: int) -> bool:
    buffer = ctypes.create_string_buffer(256)  # struct statfs; its first word is f_type
    libc.call("fstatfs", fd, buffer)
    return int.from_bytes(buffer.raw[:8], sys.byteorder) == EXT4
