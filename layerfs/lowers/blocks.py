"""Uncompressed blocks of images, shared by all images of a process and bounded in bytes.

The kernel keeps what it has read of a file, so this cache is for what it will ask for next: the rest of a block of
which it got a part, the fragment block that a directory's small files share, and what read-ahead brought. A block is
known by where it is stored, so deduplicated files and fragments share it.

Locks: one, never held while a block is read or uncompressed. Any thread may call anything.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

LIMIT: Final = 8 << 20  # bytes; guessed: a few files' read-ahead
WORKERS: Final = 4  # at most, else one a CPU

Key = tuple[int, int]  # an image's number, a block's position in it
Load = Callable[[], bytes]


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
    """Least-recently-used blocks, each loaded once however many ask for it at the same time."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._blocks: OrderedDict[Key, bytes] = OrderedDict()
        self._size = 0
        self._coming: dict[Key, _Coming] = {}
        self._jobs: SimpleQueue[list[tuple[Key, Load]]] = SimpleQueue()
        self._workers = 0

    @property
    def size(self) -> int:
        """Bytes that are held."""
        return self._size

    def peek(self, key: Key) -> bytes | None:
        """Return a block if it is here."""
        with self._lock:
            block = self._blocks.get(key)
            if block is not None:
                self._blocks.move_to_end(key)
            return block

    def take(self, key: Key, load: Load) -> bytes:
        """Return a block, loading it here, or waiting for whoever does already. OSError as `load` raises it."""
        with self._lock:
            block = self._blocks.get(key)
            if block is not None:
                self._blocks.move_to_end(key)
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
                self._put(key, coming.block)
        coming.over.release()

    def _put(self, key: Key, block: bytes) -> None:
        former = self._blocks.pop(key, None)
        self._size += len(block) - (len(former) if former is not None else 0)
        self._blocks[key] = block
        while self._size > self.limit and len(self._blocks) > 1:
            _, oldest = self._blocks.popitem(last=False)
            self._size -= len(oldest)

    def foresee(self, wanted: list[tuple[Key, Load]]) -> None:
        """Have one thread load blocks that will be asked for; what fails is asked for again by whoever needs it."""
        if not wanted:
            return
        if self._workers < min(os.cpu_count() or 1, WORKERS):
            self._workers += 1
            threading.Thread(target=self._work, name="layerfs-blocks", daemon=True).start()
        self._jobs.put(wanted)

    def _work(self) -> None:
        while True:
            wanted = self._jobs.get()
            for key, load in wanted:
                try:
                    self.take(key, load)
                except OSError:
                    pass  # a corrupt block, or an image that was closed meanwhile: who asks for it is told
            del wanted, load

    def forget(self, image: int) -> None:
        """Drop an image's blocks, once nobody is loading one of them."""
        with self._lock:
            coming = [each for key, each in self._coming.items() if key[0] == image]
        for each in coming:
            each.wait()
        with self._lock:
            for key in [key for key in self._blocks if key[0] == image]:
                self._size -= len(self._blocks.pop(key))


CACHE: Final = BlockCache()
