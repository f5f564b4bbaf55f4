"""The data of a file of an image, written to a descriptor: threads uncompress ahead, holes stay holes."""

import errno
import os
from collections.abc import Callable

from layerfs.pysquashfs.blockcache import BlockCache
from layerfs.pysquashfs.errors import SquashfsError
from layerfs.pysquashfs.image import SquashfsImage
from layerfs.pysquashfs.values import Inode, Piece


def copy_file(
    image: SquashfsImage,
    inode: Inode,
    fd: int,
    blocks: BlockCache,
    size: int | None = None,
    progress: Callable[[int], object] = lambda offset: None,
) -> None:
    """Write a file's data, or the first `size` bytes, into an empty file, which then has that size.

    Holes are not looked at, so the work is bounded by what is stored. What the file does not have is a hole. `progress`
    is called with each offset that is reached, and may end the copy by an exception.
    Raises SquashfsError for what cannot be read, OSError for what cannot be written.
    """
    end = inode.size if size is None else size
    os.ftruncate(fd, end)
    if not end:
        return
    for piece, block in blocks.in_order(image, image.stored_pieces(inode.ref)):
        if piece.offset >= end:
            return
        data = part_of(image, piece, block)
        _write(fd, data[: end - piece.offset], piece.offset)
        progress(piece.offset + piece.length)


def part_of(image: SquashfsImage, piece: Piece, block: bytes) -> memoryview:
    """Return a piece's bytes in its block. Raises SquashfsError if the block is too short."""
    data = memoryview(block)[piece.start : piece.start + piece.length]
    if len(data) < piece.length:
        what = f"block {piece.position:#x}"
        reason = "a data block is shorter than its file says"
        raise SquashfsError(errno.EIO, reason, filename=image.name, what=what, code="SQFS_ERROR_CORRUPTED")
    return data


def _write(fd: int, data: memoryview, offset: int) -> None:
    while data:
        done = os.pwrite(fd, data, offset)
        data, offset = data[done:], offset + done
