"""Fetches attributes ahead: threads stat names of a directory before the kernel asks for them.

A disk answers three reads at once almost as soon as one, but a lookup waits for its own alone. Where the names of one
directory lie in many layers, nearly each costs a read. Nothing that a thread finds is used: it only brings inodes into
the host's caches, so a descriptor that was closed meanwhile, or belongs to something else by now, does no harm. Nothing
is fetched while answers come from memory, where a few reads bring in all, or for a few names: threads take a
millisecond to begin.

Tried and left out: reading the next directories of a walk, and a window that runs ahead of single lookups. Neither
paid.
"""

import os
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from layerfs.union.inodes import Directory
from layerfs.union.layers import DirTree
from layerfs.union.listing import holder

if TYPE_CHECKING:
    from queue import SimpleQueue
    from threading import Thread

THREADS = 3  # guessed: a disk here answers three reads at once; more threads only take the interpreter
PROBE = 6  # names; what they took tells whether the rest is worth it
COLD = 40e-6  # seconds a name; more, and nearly each had to wait for a disk
CHUNK = 8  # names that one thread stats in a row
WINDOW = 256  # names; about what one READDIRPLUS holds

HostName = tuple[int, bytes]  # an open directory of the host, and a name in it


class AttributePrefetch:
    """The threads that stat names ahead in one union; they are started when first needed."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[list[HostName]] | None = None
        self._threads: list[Thread] = []
        self._waits = _Misses()

    def waited(self, parent: Directory) -> None:
        """Note a lookup that had to wait for a disk; several in one directory start the threads."""
        if self._waits.add(parent.ino) == PROBE and parent.listing is not None:
            self.fetch(parent, list(islice(parent.listing.names, WINDOW)))

    def fetch(self, parent: Directory, names: Sequence[bytes]) -> None:
        """Have threads stat names of a directory whose listing is loaded."""
        if parent.parts is None or parent.listing is None or len(names) < CHUNK:
            return
        if not any(isinstance(part.tree, DirTree) for part in parent.parts.all()):
            return
        jobs = self._jobs or self._start()
        if jobs.qsize():
            return  # they still work on the last ones
        for start in range(0, len(names), CHUNK):
            found = [host_name(parent, name) for name in names[start : start + CHUNK]]
            jobs.put([each for each in found if each is not None])

    def _start(self) -> "SimpleQueue[list[HostName]]":
        """Start the threads."""
        from queue import SimpleQueue  # a mount that waits for no disk needs none
        from threading import Thread

        jobs: SimpleQueue[list[HostName]] = SimpleQueue()
        for _ in range(THREADS):
            thread = Thread(target=self._work, args=(jobs,), name="layerfs-ahead", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs = jobs
        return jobs

    @staticmethod
    def _work(jobs: "SimpleQueue[list[HostName]]") -> None:
        while True:
            for fd, name in jobs.get():
                try:
                    _stat(fd, name)
                except OSError:
                    pass  # it came too late


class _Misses:
    """Counts misses in a row in one directory."""

    def __init__(self) -> None:
        self._directory = 0
        self._count = 0

    def add(self, directory: int) -> int:
        """Count one more and return how many there were."""
        if directory != self._directory:
            self._directory, self._count = directory, 0
        self._count += 1
        return self._count


def _stat(at: int, name: bytes) -> object:
    return os.lstat(name, dir_fd=at)


def host_name(parent: Directory, name: bytes) -> HostName | None:
    """Return where the host has a name of a merged directory; None for an image, or a directory that is not open."""
    where = parent.listing.names.get(name) if parent.listing is not None else None
    if where is None:
        return None
    part = holder(where)
    return (part.fd, name) if part.fd >= 0 and isinstance(part.tree, DirTree) else None
