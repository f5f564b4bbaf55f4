"""The process behind a `Disk`: a FUSE filesystem of one file that logs every write and every flush.

    python -m tests.powercut.server MOUNTPOINT DISK LOG

The file's bytes are those of DISK. LOG gets one record for each request, whole before the answer is given.
"""

import errno
import os
import stat
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pyfuse3
import trio

NAME = b"disk"
INODE = pyfuse3.ROOT_INODE + 1
RECORD = struct.Struct("<qq")  # offset and length [bytes] of a write, its data behind; offset FLUSH: a flush
FLUSH = -1


@dataclass(frozen=True)
class Record:
    """One request that reached the disk; `end` is where it ends in the log."""

    offset: int
    data: bytes
    end: int

    @property
    def is_flush(self) -> bool:
        return self.offset == FLUSH


def records(log: str | os.PathLike[str], until: int) -> Iterator[Record]:
    """Read the log's first `until` bytes."""
    with open(log, "rb") as source:
        while source.tell() < until:
            offset, length = RECORD.unpack(source.read(RECORD.size))
            data = source.read(length)
            yield Record(offset, data, source.tell())


class OneFile(pyfuse3.Operations):
    """A directory with one file in it, read and written as its loop device asks."""

    def __init__(self, disk: int, log: int) -> None:
        super().__init__()
        self.disk, self.log = disk, log

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext | None = None) -> pyfuse3.EntryAttributes:
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino = inode
        attributes.st_mode = stat.S_IFREG | 0o600 if inode == INODE else stat.S_IFDIR | 0o700
        attributes.st_size = os.fstat(self.disk).st_size if inode == INODE else 0
        attributes.st_nlink = 1
        return attributes

    async def lookup(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        if name != NAME:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(pyfuse3.InodeT(INODE))

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(1), direct_io=True)  # no cache between the disk and its log

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return os.pread(self.disk, size, off)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        os.pwrite(self.disk, buf, off)
        os.write(self.log, RECORD.pack(off, len(buf)) + buf)
        return len(buf)

    async def fsync(self, fh: int, datasync: bool) -> None:
        os.write(self.log, RECORD.pack(FLUSH, 0))


def main(mountpoint: str, disk: str, log: str) -> None:
    """Serve until unmounted; closes standard output once the mount answers."""
    operations = OneFile(os.open(disk, os.O_RDWR), os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    pyfuse3.init(operations, mountpoint, {"fsname=powercut", "subtype=powercut"})
    os.close(1)
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
