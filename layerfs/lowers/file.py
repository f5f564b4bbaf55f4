"""An open file of an image: its bytes come block by block from the cache; reading in order is read ahead."""

import errno
import os
import stat
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from layerfs.pysquashfs import Inode, Piece
from layerfs.pysquashfs.blockcache import BlockCache, job_of
from layerfs.pysquashfs.copying import copy_file
from layerfs.sys.copy import Progress, nothing
from layerfs.union.layers import Ref
from layerfs.union.shown import Shown

if TYPE_CHECKING:
    from layerfs.lowers.squash import SquashLower

AHEAD: Final = 2 << 20  # bytes read ahead in a file that is read in order; guessed
PART: Final = AHEAD // 4  # bytes for one thread at a time; half the window would leave the others idle (measured)
STORED: Final = (1 << 24) - 1  # of a stored size; the bit above says that it is not compressed
HOLE: Final = -1  # the position of a piece that is not stored
CACHE: Final = BlockCache()  # of all images of this process

Bytes = bytes | memoryview


class ImageStat(Shown):
    """What stat says of an inode of an image; the times are all its mtime, as the kernel's squashfs has it."""

    __slots__ = ()

    def __init__(self, inode: Inode, device: int) -> None:
        self.st_ino = inode.number
        self.st_dev = device
        self.st_mode = inode.mode
        self.st_nlink = inode.nlink
        self.st_uid = inode.uid
        self.st_gid = inode.gid
        self.st_rdev = inode.rdev
        size = self.st_size = inode.size
        # fs/squashfs/inode.c: what is sparse takes no room, only files take any; writers have counted too much.
        self.st_blocks = (max(size - inode.sparse, 0) + 511) >> 9 if stat.S_ISREG(inode.mode) else 0
        self.st_blksize = 4096
        self.st_atime_ns = self.st_mtime_ns = self.st_ctime_ns = inode.mtime * 1_000_000_000


class ImageFile:
    """An open object of an image (`layerfs.union.opened.Foreign`)."""

    __slots__ = ("_next", "_pieces", "_read_ahead", "inode", "tree")

    def __init__(self, tree: "SquashLower", inode: Inode) -> None:
        self.tree = tree
        self.inode = inode
        self._pieces: Sequence[Piece] | None = None
        self._next = 0  # where reading in order goes on
        self._read_ahead = 0  # up to where threads were told to read

    @property
    def ref(self) -> Ref:
        return self.inode

    def stat(self) -> ImageStat:
        return ImageStat(self.inode, self.tree.device)

    def readlink(self) -> bytes:
        return self.tree.guarded(partial(self.tree.image.readlink, self.inode.ref))

    def ready(self, offset: int, size: int) -> Bytes | None:
        end = min(offset + size, self.inode.size)
        if offset >= end:
            return b""
        in_order = offset == self._next and end < self.inode.size
        self._next = end
        if in_order:
            self._look_ahead(offset, end)
        pieces = self._within(offset, end)
        number = self.tree.image.number
        blocks = [b"" if p.position == HOLE else CACHE.peek((number, p.position, p.stored)) for p in pieces]
        missing = blocks.count(None)
        if missing > 1 or (missing and (in_order or not self.tree.quick)):
            return None
        return self._join(offset, end, pieces, blocks)

    def _look_ahead(self, offset: int, end: int) -> None:
        """Have threads read on. Each gets a whole part of the window, since a word to a thread costs two switches."""
        if self._read_ahead < offset or end + AHEAD < self._read_ahead:  # went on elsewhere
            self._read_ahead = offset
        while self._read_ahead < min(end + AHEAD - PART, self.inode.size):
            begin, self._read_ahead = self._read_ahead, min(self._read_ahead + PART, self.inode.size)
            pieces = [piece for piece in self._within(begin, self._read_ahead) if piece.position != HOLE]
            if pieces:
                self.tree.will_need(pieces[0].position, pieces[-1].position + (pieces[-1].stored & STORED))
            CACHE.prefetch([job_of(self.tree.image, piece) for piece in pieces])

    def read(self, offset: int, size: int) -> Bytes:
        end = min(offset + size, self.inode.size)
        if offset >= end:
            return b""
        pieces = self._within(offset, end)
        return self._join(offset, end, pieces, [None] * len(pieces))

    def seek(self, offset: int, whence: int) -> int:
        if not 0 <= offset < self.inode.size:
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        for piece in self._within(offset, self.inode.size):
            if (piece.position == HOLE) == (whence == os.SEEK_HOLE):
                return max(offset, piece.offset)
        if whence == os.SEEK_HOLE:
            return self.inode.size
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))

    def copy(self, target: int, size: int, progress: Progress = nothing) -> None:
        # A metacopy may claim any size: what the file does not have is a hole.
        self.tree.guarded(partial(copy_file, self.tree.image, self.inode, target, CACHE, size, progress))

    def _within(self, offset: int, end: int) -> Sequence[Piece]:
        """Return the pieces that a range of bytes touches; the range is not empty and inside the file."""
        if self._pieces is None:
            self._pieces = self.tree.guarded(partial(self.tree.image.pieces, self.inode.ref))
        size = self.tree.image.superblock.block_size
        asked, pieces = slice(offset // size, (end - 1) // size + 1), self._pieces
        return self.tree.guarded(lambda: pieces[asked])

    def _join(self, offset: int, end: int, pieces: Sequence[Piece], blocks: Sequence[bytes | None]) -> Bytes:
        """Put a range together from its pieces; `blocks` are those that are here already."""
        found: list[Bytes] = []
        for piece, block in zip(pieces, blocks, strict=True):
            low = max(offset - piece.offset, 0)
            high = min(end - piece.offset, piece.length)
            if piece.position == HOLE:
                found.append(bytes(high - low))
                continue
            if block is None:
                block = self._take(piece)
            found.append(memoryview(block)[piece.start + low : piece.start + high])
        return found[0] if len(found) == 1 else b"".join(found)

    def _take(self, piece: Piece) -> bytes:
        block = self.tree.guarded(partial(CACHE.take, *job_of(self.tree.image, piece)))
        if len(block) < piece.start + piece.length:
            self.tree.complain(f"a block at byte {piece.position} is too short")
        return block
