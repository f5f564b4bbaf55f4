"""Writing fresh data to disk before it is renamed into place: a power cut leaves the old file or the new one.

With a journal of ext4 it is enough to wait for the data alone: the journal brings the new size (data=ordered, and
dioread_nolock, where the size follows the data's end) no later than the rename, and flushes the disk's cache before it
commits. That takes half of fsync(2), which commits the journal by itself, and is what it takes elsewhere.

The filesystem's magic number is no proof of a journal: ext2, ext3 and ext4 share it, and ext4 may have none.
"""

import os
from typing import Final

from layerfs.sys import libc

JOURNALS: Final = "/proc/fs/jbd2"  # one directory for each journal that is in use: DEVICE-INODE
DEVICES: Final = "/sys/dev/block"
JOURNAL_INODE: Final = 8  # EXT4_JOURNAL_INO; a journal on another device has another name, and is not trusted
WRITE: Final = 2  # SYNC_FILE_RANGE_WRITE, sync_file_range(2): start to write
WAIT_WRITE_WAIT: Final = 7  # SYNC_FILE_RANGE_*: wait for what is under way, write, wait


def start_writeback(fd: int, offset: int = 0, size: int = 0) -> None:
    """Start to write a range of a fresh file to disk, so that `make_durable` waits less; size 0 means to its end."""
    try:
        libc.call("sync_file_range", fd, offset, size, WRITE)
    except OSError:
        pass  # not every filesystem can; `make_durable` tells what goes wrong


def wait_for_range(fd: int, offset: int, size: int) -> None:
    """Wait until a range of a fresh file is written, so that few of its pages are dirty at any time."""
    try:
        libc.call("sync_file_range", fd, offset, size, WAIT_WRITE_WAIT)
    except OSError:
        pass  # as above


def make_durable(fd: int, *, ordered: bool | None = None) -> None:
    """Write a fresh file to disk so that a rename that follows shows all of it after a power cut.

    Call it after owner, mode and times are set. `ordered` is the answer of `keeps_order` for this filesystem, which the
    caller must have held open since. Raises OSError: EIO, ENOSPC, EDQUOT.
    """
    if keeps_order(fd) if ordered is None else ordered:
        libc.call("sync_file_range", fd, 0, 0, WAIT_WRITE_WAIT)
    else:
        os.fsync(fd)


def keeps_order(fd: int) -> bool:
    """Tell whether a journal of ext4 brings a file's inode to disk no later than a rename that follows.

    False where that cannot be seen.
    """
    device = os.fstat(fd).st_dev
    try:
        name = os.path.basename(os.readlink(f"{DEVICES}/{os.major(device)}:{os.minor(device)}"))
    except OSError:  # no /sys, or a filesystem without a device
        return False
    return os.path.isdir(f"{JOURNALS}/{name}-{JOURNAL_INODE}")
