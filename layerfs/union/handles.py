"""The directories of the layers that are open: a bounded number of them, opened again when they are needed."""

import errno
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from layerfs.union.layers import Part
from layerfs.union.shown import fingerprint

if TYPE_CHECKING:
    from layerfs.union.front import Front

FEW: Final = 16  # directories that may be open in any case


class Handles:
    """Keeps at most `limit` directories of the layers open; the rest are opened again when they are needed.

    Eviction gives each directory a second chance (clock), so that a hit costs one attribute.
    """

    __slots__ = ("_held", "_queue", "front", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.front: Front | None = None
        self._held = 0
        self._queue: deque[Part] = deque()

    def fd(self, part: Part) -> int:
        """Return an open handle of a part; good until the next call that may evict it."""
        if part.fd >= 0:
            part.fresh = True
            return part.fd
        chain = []
        step: Part | None = part
        while step is not None and step.fd < 0:
            chain.append(step)
            step = step.parent
        if step is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        for link in reversed(chain):
            self._open(link, step.fd)
            step = link
        return part.fd

    def _open(self, part: Part, at: int) -> None:
        try:
            part.fd = part.tree.open_dir(at, part.name)
        except OSError as error:
            if error.errno != errno.EMFILE or self._held:
                raise
            self.shrink(len(self._queue) // 2, part.parent)
            part.fd = part.tree.open_dir(at, part.name)
        self._enqueue(part)
        if part.seen and fingerprint(part.tree.stat_dir(part.fd)) != part.seen:
            self.drop(part)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), part.name)

    def keep(self, part: Part, fd: int) -> None:
        """Take over a handle that was opened elsewhere."""
        part.fd = fd
        self._enqueue(part)

    def _enqueue(self, part: Part) -> None:
        part.fresh = True
        if part.handed is not None and self.front is not None:
            self.front.share(part, part.fd)
        self._queue.append(part)
        if len(self._queue) > self.limit and not self._held:
            self.shrink(self.limit, part)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Evict no handle while the block runs: others use them, and a closed number would be reused. Nests."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if not self._held and len(self._queue) > self.limit:
                self.shrink(self.limit)

    def shrink(self, size: int, spared: Part | None = None) -> None:
        """Close the coldest directories until at most `size` stay open; `spared` is in use."""
        queue = self._queue
        for _ in range(2 * len(queue)):  # each gets one second chance
            if len(queue) <= size:
                return
            part = queue.popleft()
            if part.fd < 0:
                continue
            if part.fresh or part is spared:
                part.fresh = False
                queue.append(part)
            else:
                self.drop(part)

    def make_way(self, size: int) -> None:
        """Close directories until at most `size` stay open, and a few; none while others use them."""
        if not self._held and len(self._queue) > max(size, FEW):
            self.shrink(max(size, FEW))

    def drop(self, part: Part) -> None:
        """Close a part now; its entry in the queue is dropped later."""
        if part.fd >= 0 and part.parent is not None:
            fd, part.fd = part.fd, -1
            if part.handed is not None and self.front is not None:
                self.front.share(part, -1)
            part.tree.close_dir(fd)

    def open_parts(self) -> int:
        """Return how many directories are open, the roots aside."""
        return len({id(part) for part in self._queue if part.fd >= 0})

    def close(self) -> None:
        """Close every directory that is not a root."""
        while self._queue:
            self.drop(self._queue.popleft())
