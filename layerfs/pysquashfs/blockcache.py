"""Uncompressed blocks of images, loaded by threads ahead of the thread that needs them, and bounded in bytes.

A cache may be shared by several images. Whoever serves files needs it for what the kernel asks next: the rest of a
block of which it got a part, the fragment block that a directory's small files share, and what read-ahead brought. A
block is known by where and how it is stored, so deduplicated files and fragments share it.

Locks: one, never held while a block is read or uncompressed. Any thread may call anything.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from queue import SimpleQueue
from typing import Final, Self

from layerfs.pysquashfs.image import SquashfsImage
from layerfs.pysquashfs.recent import Recent
from layerfs.pysquashfs.values import Piece

LIMIT: Final = 8 << 20  # bytes; guessed: a few files' read-ahead
WORKERS: Final = min(os.cpu_count() or 1, 4)
AHEAD: Final = 4 * WORKERS  # blocks under way when a file is read from its beginning to its end

Key = tuple[int, int, int]  # an image's number, a block's position in it and its stored size
Load = Callable[[], bytes]
Job = tuple[Key, Load]


def job_of(image: SquashfsImage, piece: Piece) -> Job:
    """Return the key of a stored piece's block, and the call that loads it."""
    key = image.number, piece.position, piece.stored
    return key, partial(image.load, piece.position, piece.stored, image.superblock.block_size)


class _Coming:
    """A block on its way; `block` or `failure` is set before `over` is released (an Event costs ten times as much)."""

    __slots__ = ("block", "failure", "over")

    def __init__(self) -> None:
        self.over = threading.Lock()
        self.over.acquire()
        self.block = b""
        self.failure: BaseException | None = None

    def wait(self) -> None:
        with self.over:
            pass

    def result(self) -> bytes:
        self.wait()
        if self.failure is not None:
            raise self.failure
        return self.block


class BlockCache:
    """Recently used blocks, each loaded once however many ask for it at the same time. `with` ends its threads."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._blocks: Recent[Key, bytes] = Recent(limit, len)
        self._coming: dict[Key, _Coming] = {}
        self._jobs: SimpleQueue[list[Job] | None] = SimpleQueue()
        self._workers: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads, once their current blocks are loaded; what else was to be prefetched is given up."""
        while not self._jobs.empty():
            self._jobs.get()
        for _ in self._workers:
            self._jobs.put(None)
        for worker in self._workers:
            worker.join()
        self._workers = []

    @property
    def size(self) -> int:
        """Bytes that are held."""
        return self._blocks.weight

    def peek(self, key: Key) -> bytes | None:
        """Return a block if it is here."""
        with self._lock:
            return self._blocks.get(key)

    def take(self, key: Key, load: Load) -> bytes:
        """Return a block. It is loaded here, unless another thread is loading it. Raises what `load` raises."""
        with self._lock:
            block = self._blocks.get(key)
            if block is not None:
                return block
            coming = self._coming.get(key)
            mine = coming is None
            if coming is None:
                coming = self._coming[key] = _Coming()
        if mine:
            self._fetch(key, coming, load)
        return coming.result()

    def _fetch(self, key: Key, coming: _Coming, load: Load) -> None:
        try:
            coming.block = load()
        except BaseException as error:
            coming.failure = error
        with self._lock:
            del self._coming[key]
            if coming.failure is None:
                self._blocks.put(key, coming.block)
        coming.over.release()

    def prefetch(self, wanted: list[Job]) -> None:
        """Have one thread load blocks that will be asked for. A block that fails is loaded again when it is needed."""
        if not wanted:
            return
        if len(self._workers) < WORKERS:
            worker = threading.Thread(target=self._work, name="squashfs-blocks", daemon=True)
            self._workers.append(worker)
            worker.start()
        self._jobs.put(wanted)

    def _work(self) -> None:
        while (wanted := self._jobs.get()) is not None:
            for key, load in wanted:
                try:
                    self.take(key, load)
                except (OSError, MemoryError):
                    pass  # a corrupt block, or an image that was closed meanwhile; `take` tells of it
            del wanted, load

    def in_order(self, image: SquashfsImage, pieces: Iterable[Piece]) -> Iterator[tuple[Piece, bytes]]:
        """Yield stored pieces with the blocks that they are in; threads load the next ones meanwhile.

        A single block is loaded here. Raises SquashfsError.
        """
        window = max(min(AHEAD, self.limit // image.superblock.block_size - 1), 1)
        coming: deque[Piece] = deque()
        for piece in pieces:
            if coming:
                self.prefetch([job_of(image, piece)])
            coming.append(piece)
            if len(coming) > window:
                first = coming.popleft()
                yield first, self.take(*job_of(image, first))
        for piece in coming:
            yield piece, self.take(*job_of(image, piece))

    def forget(self, image: int) -> None:
        """Drop an image's blocks, once nobody is loading one of them."""
        with self._lock:
            coming = [each for key, each in self._coming.items() if key[0] == image]
        for each in coming:
            each.wait()
        with self._lock:
            for key in [key for key in self._blocks if key[0] == image]:
                self._blocks.drop(key)
