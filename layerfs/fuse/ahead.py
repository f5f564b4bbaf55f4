"""Read-ahead for metadata: threads look at the names of a directory before they are asked for.

A disk answers three reads at once almost as soon as one, but a lookup waits for its own alone. Where the names of one
directory lie in many layers, nearly each costs a read. Nothing that a thread finds is used: it is advice to the
host's caches, so a descriptor that was closed meanwhile, or belongs to something else by now, does no harm. Nothing
is foreseen while answers come from memory, or a few reads bring in all.

Tried and left out: reading the next directories of a walk, and a window that runs ahead of single lookups. Neither
paid.
"""

import os
import threading
from collections.abc import Sequence
from queue import SimpleQueue

from layerfs.union.inodes import Directory, Where
from layerfs.union.layers import DirTree, Part

THREADS = 3  # measured: a fourth gains nothing here, they only take the interpreter from each other
PROBE = 6  # names; what they took tells whether the rest is worth it
COLD = 40e-6  # seconds a name; more, and nearly each had to wait for a disk
CHUNK = 8  # names that one thread looks at in a row
WINDOW = 256  # names; about what one READDIRPLUS holds

Place = tuple[int, bytes]


class Ahead:
    """The threads that look ahead in one union; they are started when first needed."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[list[Place]] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._directory = 0
        self._misses = 0

    def waited(self, parent: Directory) -> None:
        """Note a lookup that had to wait for a disk.

        Several in one directory foretell that more of its names follow.
        """
        if parent.ino != self._directory:
            self._directory, self._misses = parent.ino, 0
        self._misses += 1
        if self._misses == PROBE and parent.listing is not None:
            self.look(parent, list(parent.listing)[:WINDOW])

    def look(self, parent: Directory, names: Sequence[bytes]) -> None:
        """Send threads to names of a directory whose listing is loaded."""
        if self._jobs.qsize() or parent.parts is None or parent.listing is None:
            return  # still at the last one
        while len(self._threads) < THREADS:
            thread = threading.Thread(target=self._work, name="layerfs-ahead", daemon=True)
            self._threads.append(thread)
            thread.start()
        for start in range(0, len(names), CHUNK):
            places = [_place(parent.parts, parent.listing.get(name), name) for name in names[start : start + CHUNK]]
            self._jobs.put([place for place in places if place is not None])

    def _work(self) -> None:
        while True:
            for fd, name in self._jobs.get():
                try:
                    os.lstat(name, dir_fd=fd)
                except OSError:
                    pass  # advice that came too late


def _place(parts: list[Part | None], where: Where | None, name: bytes) -> Place | None:
    """Return the open directory of the host in which a listed name stands."""
    if where is None:
        return None
    part = parts[where] if isinstance(where, int) else parts[where[0]]
    return (part.fd, name) if part is not None and part.fd >= 0 and isinstance(part.tree, DirTree) else None
