"""Loading the listings of directories; others are answered while a large one is read.

A directory of a million names takes seconds. It is read in steps, with a turn for everybody else between two of them.
Other requests for the same directory wait until it is loaded.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from layerfs.fuse.blocking import Blocking, Event
from layerfs.fuse.prefetch_listings import ListingPrefetch
from layerfs.union.inodes import Directory
from layerfs.union.union import Union

_LOADED = object()
AT_ONCE = 3  # steps, of some 2 ms each; guessed
MANY = 2000  # whiteouts; to remove them takes some 20 ms


class Loading:
    """The directories of one union that are being loaded."""

    def __init__(self, union: Union, prefetch: ListingPrefetch, blocking: Blocking) -> None:
        self._union = union
        self._prefetch = prefetch
        self._blocking = blocking
        self._under_way: dict[Directory, Event] = {}
        self._begun: dict[Directory, Iterator[None]] = {}  # whoever asked at once left the rest to `load`

    async def load(self, directory: Directory) -> None:
        """Return when a directory's listing is loaded."""
        while directory.listing is None:
            other = self._under_way.get(directory)
            if other is None:
                await self._take_steps(directory)
            else:
                await other.wait()  # then it is loaded, or there is an error, which each gets for itself
        if self._begun:  # somebody could not wait
            self._begun.pop(directory, None)

    def at_once(self, directory: Directory) -> bool:
        """Load a listing if that takes a moment, and tell whether it is loaded; if not, `load` is to go on."""
        if directory.listing is None and directory not in self._under_way and directory not in self._begun:
            steps = self._union.loading(directory)
            for _ in range(AT_ONCE):
                if next(steps, _LOADED) is _LOADED:
                    self._prefetch.loaded(directory)
                    return True
            self._begun[directory] = steps
        return directory.listing is not None

    async def _take_steps(self, directory: Directory) -> None:
        steps = self._begun.pop(directory, None) or self._union.loading(directory)
        if next(steps, _LOADED) is not _LOADED:
            self._under_way[directory] = self._blocking.event()
            try:
                for _ in steps:
                    await self._blocking.turn()
            finally:
                self._under_way.pop(directory).set()
        self._prefetch.loaded(directory)

    async def parents(self, *numbers: int) -> None:
        """Load the directories in which names are to be changed."""
        for ino in numbers:
            directory = self._union.directory(ino)
            if directory.listing is None:
                await self.load(directory)

    async def victim(self, parent: int, name: bytes) -> None:
        """Load the directory at a name that is to be removed or replaced, if it is one: only an empty one may go.

        The whiteouts in it are cleared away after that.
        """
        async with self._found(parent, name) as directory:
            if directory is not None:
                await self.load(directory)
                listing = directory.listing
                if listing is not None and not listing.names and len(listing.whiteouts) > MANY:
                    self._blocking.admit_long()

    @asynccontextmanager
    async def _found(self, parent: int, name: bytes) -> AsyncIterator[Directory | None]:
        """Look a directory up and have it stay in memory; None for anything else, and for what there is not."""
        try:
            node, _ = self._union.lookup(parent, name)
        except OSError:
            yield None
            return
        self._union.remember(node)
        try:
            yield node if isinstance(node, Directory) else None
        finally:
            self._union.forget(node.ino, 1)
