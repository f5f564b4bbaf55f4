"""How an image is to be written: what mksquashfs takes as options, and what may go wrong with them."""

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass

from layerfs.pysquashfs.errors import SquashfsError
from layerfs.pysquashfs.values import Compressor

BLOCK_SIZES = tuple(1 << log for log in range(12, 21))  # bytes; squashfs_fs.h: SQUASHFS_FILE_MAX_LOG
LATEST = 0xFFFFFFFF  # s since 1970: times are unsigned 32 bit on disk

# From libsquashfs's compressor.h. lz4 has a quick and a slow variant of the same format; its own tools number them so.
LEVELS: Mapping[Compressor, range] = {
    Compressor.GZIP: range(1, 10),
    Compressor.XZ: range(10),
    Compressor.LZMA: range(10),
    Compressor.ZSTD: range(1, 23),
    Compressor.LZ4: range(1, 13),
}
LZ4_HIGH = 3  # lz4.h: levels from here on are LZ4_compress_HC


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How an image is to be written; the defaults are mksquashfs's, but for zstd and for tail ends in fragments.

    level: None is the compressor's default; lz4 knows quick (below 3) and high compression (from 3 on).
    threads: that compress; None is as many as this process has CPUs. The image does not depend on it.
    compress_inodes: all metadata but xattrs (inodes, directories, the tables of fragments, ids and the export table).
    fragments: the ends of files that fill no block share blocks; without, each has a block of its own.
    mtime [s]: the image's time, and the latest that a file may have; newer ones are set to it. Without it the
        environment's SOURCE_DATE_EPOCH is that; without both the image's time is its newest file's.
    own_times: files keep their times as they are, whatever SOURCE_DATE_EPOCH says.
    export: the table that NFS needs, and `SquashfsImage.by_number`.
    xattr_table: also where nothing has xattrs; without one Linux answers listxattr(2) with EOPNOTSUPP, not with none.
    """

    compressor: Compressor = Compressor.ZSTD
    level: int | None = None
    block_size: int = 131072
    threads: int | None = None
    compress_inodes: bool = True
    compress_xattrs: bool = True
    compress_data: bool = True
    force_uid: int | None = None
    force_gid: int | None = None
    mtime: int | None = None
    own_times: bool = False
    xattrs: bool = True
    xattr_table: bool = False
    export: bool = True
    deduplicate: bool = True
    fragments: bool = True

    def __post_init__(self) -> None:
        """Raise SquashfsError: EINVAL for what no image can have, EOPNOTSUPP for a compressor we cannot write."""
        if self.compressor not in LEVELS:
            raise _refused(errno.EOPNOTSUPP, f"libsquashfs does not write {self.compressor.name.lower()}")
        levels = LEVELS[self.compressor]
        if self.level is not None and self.level not in levels:
            name = self.compressor.name.lower()
            raise _refused(errno.EINVAL, f"{name} has levels {levels[0]} to {levels[-1]}, not {self.level}")
        if self.block_size not in BLOCK_SIZES:
            raise _refused(errno.EINVAL, f"a block of {self.block_size} bytes: not a power of two from 4096 to 1048576")
        if self.threads is not None and not 1 <= self.threads <= 1024:
            raise _refused(errno.EINVAL, f"{self.threads} threads: not 1 to 1024")
        for name in ("force_uid", "force_gid", "mtime"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= LATEST:
                raise _refused(errno.EINVAL, f"{name} {value} is not within 32 bits")

    @property
    def thread_count(self) -> int:
        """How many threads compress."""
        return self.threads or min(len(os.sched_getaffinity(0)), 1024)

    def latest(self) -> int | None:
        """The time that none may exceed [s], if there is one. Raises SquashfsError for a bad SOURCE_DATE_EPOCH."""
        if self.mtime is not None:
            return self.mtime
        text = "" if self.own_times else os.environ.get("SOURCE_DATE_EPOCH")
        if not text:
            return None
        if not text.isascii() or not text.isdigit() or int(text) > LATEST:
            raise _refused(errno.EINVAL, f"SOURCE_DATE_EPOCH is {text!r}, not seconds since 1970")
        return int(text)


def _refused(number: int, message: str) -> SquashfsError:
    return SquashfsError(number, message, filename=None, what="options")
