"""Directories that clients have open.

A cookie of a name stays (union/listing.py), so a handle needs no names of its own: a client goes on after the name
whose cookie it has, which may come from a listing that the kernel has kept.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from layerfs.union.listing import Listing

BY_NUMBER: Final = 1 << 63  # in a handle that a lane gave (lane/state.h): the rest is the directory's number
KEPT: Final = 1024  # directories that were opened so, and are read here; guessed


class Open:
    """One open directory; names with cookies above `end` were made after a client began to read."""

    __slots__ = ("end", "ino")

    def __init__(self, ino: int) -> None:
        self.ino = ino
        self.end: int | None = None  # None until it is read

    def since(self, cookie: int, listing: Listing) -> Iterator[tuple[int, bytes]]:
        """Yield the names after a cookie, each with its own, from the directory's listing; 0 begins anew.

        Names that are made meanwhile are left out: a client that renames what it reads would never come to an end.
        """
        order = listing.keep_order()
        if cookie == 0 or self.end is None:
            self.end = order.last
        for own, name in order.since(cookie, listing.names):
            if own > self.end:
                return
            yield own, name


class Listings:
    """All directories that are open, by handle."""

    def __init__(self) -> None:
        self._open: dict[int, Open] = {}
        self._by_number: OrderedDict[int, Open] = OrderedDict()
        self._last = 0

    def open(self, ino: int) -> int:
        """Return a new handle of a directory."""
        self._last += 1
        self._open[self._last] = Open(ino)
        return self._last

    def __getitem__(self, handle: int) -> Open:
        return self._at(handle ^ BY_NUMBER) if handle & BY_NUMBER else self._open[handle]

    def _at(self, ino: int) -> Open:
        """Return what stands for all handles of a directory that a lane gave; nobody tells when they are closed."""
        found = self._by_number.setdefault(ino, Open(ino))
        self._by_number.move_to_end(ino)
        if len(self._by_number) > KEPT:
            self._by_number.popitem(last=False)
        return found

    def close(self, handle: int) -> None:
        """Forget a handle."""
        self._open.pop(handle, None)
