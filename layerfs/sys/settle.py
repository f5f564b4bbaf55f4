"""Bringing fresh data to disk before a rename that follows: after a power cut there is the old file or the new one.

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


def begin_settling(fd: int, offset: int = 0, size: int = 0) -> None:
    """Start to write a range of a fresh file to disk, so that `settle` has less to wait for; size 0: to its end."""
    try:
        libc.call("sync_file_range", fd, offset, size, WRITE)
    except OSError:
        pass  # not every filesystem can; `settle` tells what goes wrong


def settle_range(fd: int, offset: int, size: int) -> None:
    """Wait until a range of a fresh file is written, so that little of it is ever dirty: others write as well."""
    try:
        libc.call("sync_file_range", fd, offset, size, WAIT_WRITE_WAIT)
    except OSError:
        pass  # as above


def settle(fd: int, *, ordered: bool | None = None) -> None:
    """See to it that a fresh file is on disk before a rename that follows, as far as a power cut can tell.

    To be called when its owner, mode and times are set. `ordered` is what `keeps_order` said of the file's filesystem,
    from whoever has held that open since. Raises OSError: EIO, ENOSPC, EDQUOT.
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
