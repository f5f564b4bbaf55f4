"""Fetches directories ahead: helper processes list them, so that the union finds them in the host's caches.

Cold, a merged directory of 40 layers is 80 reads from a disk that would answer several at once. Threads do not help:
they hand the interpreter to each other at every short system call (measured: 2.8 ms with 8 threads, 2.8 to 3.9
without). Forked helpers do (1.7 to 2.0 ms with 2, 1.3 to 1.5 with 4). A helper reads names of directories from a pipe,
lists them, and answers nothing: whether it is slow, dead or missing changes no answer. Helpers are forked when a cold
directory of many layers is first met, hold the layers' roots and their pipe only, and end when the server does.

Where directories are read natively there are threads of C instead (reading.py), for what a walk will come to.
"""

import os
import resource
import signal
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from layerfs.fuse.config import ending_signals
from layerfs.sys import dirs
from layerfs.sys.descriptors import close_all_but
from layerfs.union.inodes import Directory
from layerfs.union.layers import DirTree, Part, Tree
from layerfs.union.reading import Outcome, Reading

if TYPE_CHECKING:
    from layerfs.fuse.reading import NativeReader

HELPERS = 3  # beside the server; guessed, between the two and four that were measured
MANY = 6  # directories left to read; fewer are not worth telling
STEPS = 2  # directories ahead of a walk
LISTED = 20_000  # names in a directory; a walk through more is not worth the time to find its order
COLD = 50e-6  # seconds for one directory; quicker ones are in memory
_MESSAGE = struct.Struct("=HH")  # how many layers, how long a path; then the layers' indexes (H each), then the path
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class ListingPrefetch:
    """The helpers of one union."""

    def __init__(self, trees: Sequence[Tree]) -> None:
        self._roots = {tree.index: tree.root() for tree in trees if isinstance(tree, DirTree)}
        self._walk = _Walk()
        self._pipes: list[int] = []
        self._children: list[int] = []
        self.natively: NativeReader | None = None  # reads without helpers

    def together(self, jobs: Sequence[Reading], parts: Sequence[Part]) -> list[Outcome]:
        """Run jobs, each of which reads one of `parts`, in order; helpers go ahead once one had to wait for a disk."""
        if self.natively is not None:
            return self.natively.read(jobs)
        results = []
        told = len(parts) < MANY or len(self._roots) < MANY
        slept = 0 if told else sleeps()
        for index, job in enumerate(jobs):
            begin = time.perf_counter()
            results.append(job())
            if not told and time.perf_counter() - begin > COLD and sleeps() > slept:
                self._fetch(parts[index + 2 :])
                told = True
        return results

    def loaded(self, node: Directory) -> None:
        """Note that a directory's listing was loaded; if that is part of a walk, helpers go to the next directories."""
        parent = node.parent
        natively = self.natively if self.natively is not None and self.natively.looks_ahead else None
        if not (natively or self._pipes) or parent is None or parent.listing is None:
            return
        for name in self._walk.next(parent, node.name):
            where = parent.listing.names.get(name)
            parts = where if isinstance(where, tuple) else ()
            directories = [(part.tree.index, part.path()[1:] + b"/" + name) for part in parts]
            if natively is None:
                self._send(directories)
            else:
                roots = self._roots
                natively.look_ahead((roots[at], path.lstrip(b"/")) for at, path in directories if at in roots)

    def close(self) -> None:
        """End the helpers."""
        if self.natively is not None:
            self.natively.close()
        for pipe in self._pipes:
            os.close(pipe)
        for child in self._children:
            with suppress(ChildProcessError):  # our parent had us ignore SIGCHLD
                os.waitpid(child, 0)
        self._pipes, self._children = [], []

    def _fetch(self, parts: Sequence[Part]) -> None:
        if len(parts) < MANY:
            return
        if not self._pipes:
            for _ in range(HELPERS):
                self._start()
        self._send([(part.tree.index, part.path()[1:]) for part in parts])

    def _send(self, directories: list[tuple[int, bytes]]) -> None:
        """Spread directories, each a layer and a path in it, over the helpers."""
        by_path: dict[bytes, list[int]] = {}
        for layer, path in directories:
            if layer in self._roots:
                by_path.setdefault(path.lstrip(b"/"), []).append(layer)
        for path, layers in by_path.items():
            for helper, pipe in enumerate(self._pipes):
                self._tell(pipe, path, layers[helper :: len(self._pipes)])

    def _tell(self, pipe: int, path: bytes, layers: list[int]) -> None:
        message = _MESSAGE.pack(len(layers), len(path)) + struct.pack(f"={len(layers)}H", *layers) + path
        if not layers or not path or len(message) > 4096:  # PIPE_BUF: what is written whole or not at all
            return
        try:
            os.write(pipe, message)
        except (BlockingIOError, BrokenPipeError):
            pass  # busy, or gone: then nothing is fetched

    def _start(self) -> None:
        theirs, ours = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                _serve(theirs, self._roots)
            finally:
                os._exit(0)
        os.close(theirs)
        os.set_blocking(ours, False)
        self._pipes.append(ours)
        self._children.append(child)


def sleeps() -> int:
    """Return how often this thread has slept: one that only had to share a processor has not."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


class _Walk:
    """Recognises a walk: directories of one parent loaded one after the other, in listing or in sorted order."""

    def __init__(self) -> None:
        self._parent = 0
        self._orders: list[tuple[list[bytes], dict[bytes, int]]] = []
        self._last = [-2, -2]
        self._told: set[bytes] = set()

    def next(self, parent: Directory, name: bytes) -> list[bytes]:
        """Return the directories that a walk will come to after `name`, and that were not returned before."""
        if parent.ino != self._parent:
            self._begin(parent)
        found: list[bytes] = []
        for order, (names, positions) in enumerate(self._orders):
            position = positions.get(name, -2)
            if position == self._last[order] + 1 and not found:
                found = [each for each in names[position + 1 : position + 1 + STEPS] if each not in self._told]
            self._last[order] = position
        self._told.update(found)
        return found

    def _begin(self, parent: Directory) -> None:
        listing = parent.listing.names if parent.listing is not None else {}
        if len(listing) > LISTED:
            listing = {}
        names = [name for name, where in listing.items() if isinstance(where, tuple)]
        self._parent, self._told, self._last = parent.ino, set(), [-2, -2]
        self._orders = [(order, {name: i for i, name in enumerate(order)}) for order in (names, sorted(names))]


def _serve(pipe: int, roots: dict[int, int]) -> None:
    """List what the pipe names until it ends. Runs in a fork: nothing here may touch trio, logging or the union."""
    signal.set_wakeup_fd(-1)
    for number in ending_signals():
        signal.signal(number, signal.SIG_IGN)  # only the end of the pipe ends a helper
    close_all_but((pipe, *roots.values()))
    while header := os.read(pipe, _MESSAGE.size):
        count, length = _MESSAGE.unpack(header)
        layers = struct.unpack(f"={count}H", os.read(pipe, 2 * count))
        path = os.read(pipe, length)
        for layer in layers:
            _touch(roots[layer], path)


def _touch(root: int, path: bytes) -> None:
    try:
        directory = dirs.open_beneath(root, path, _DIRECTORY)
        try:
            os.listxattr(directory)
            os.listdir(directory)
        finally:
            os.close(directory)
    except OSError:
        pass  # it came too late
