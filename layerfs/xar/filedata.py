"""The data of an image's files, written to descriptors: threads uncompress ahead, holes stay holes."""

import errno
import os
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Self

from layerfs.pysquashfs import Image, Inode, Piece
from layerfs.sys.copy import write_all

WORKERS: Final = os.cpu_count() or 1
AHEAD: Final = 4 * WORKERS  # blocks under way; each is up to 1 MiB
KEPT: Final = 8  # blocks; small files that stand together share one


class FileData:
    """Copies files out of one image. Not for several threads at once; `with` ends the threads it has itself."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self._block_size = image.superblock.block_size
        self._pool = ThreadPoolExecutor(WORKERS)
        self._kept: OrderedDict[int, Future[bytes]] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def copy(self, inode: Inode, fd: int) -> None:
        """Write a file's data into an empty file, which then has the inode's size.

        Raises SquashfsError for what cannot be read, OSError for what cannot be written.
        """
        os.ftruncate(fd, inode.size)
        for piece, block in self._blocks(inode):
            data = memoryview(block)[piece.start : piece.start + piece.length]
            if len(data) < piece.length:
                raise OSError(errno.EIO, f"the block at byte {piece.position} of the image is too short")
            write_all(fd, data, piece.offset)

    def _blocks(self, inode: Inode) -> Iterator[tuple[Piece, bytes]]:
        """Yield the stored pieces of a file with the blocks they are in."""
        coming: deque[tuple[Piece, Future[bytes]]] = deque()
        for piece in self.image.pieces(inode.ref):
            if piece.position < 0:
                continue
            coming.append((piece, self._load(piece, alone=piece.length == inode.size)))
            if len(coming) >= AHEAD:
                first, future = coming.popleft()
                yield first, future.result()
        while coming:
            first, future = coming.popleft()
            yield first, future.result()

    def _load(self, piece: Piece, *, alone: bool) -> Future[bytes]:
        """Return a block, perhaps still on its way; a file of one block does not pay for a thread."""
        kept = self._kept.get(piece.position)
        if kept is not None:
            self._kept.move_to_end(piece.position)
            return kept
        if alone:
            future: Future[bytes] = Future()
            future.set_result(self.image.load(piece.position, piece.stored, self._block_size))
        else:
            future = self._pool.submit(self.image.load, piece.position, piece.stored, self._block_size)
        self._kept[piece.position] = future
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return future
