"""Directories that clients have open.

A cookie of a name stays (union/listing.py), so a handle needs no names of its own: a client goes on after the name
whose cookie it has, which may come from a listing that the kernel has kept.
"""

from collections.abc import Iterator

from layerfs.union.listing import Listing


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
        self._last = 0

    def open(self, ino: int) -> int:
        """Return a new handle of a directory."""
        self._last += 1
        self._open[self._last] = Open(ino)
        return self._last

    def __getitem__(self, handle: int) -> Open:
        return self._open[handle]

    def close(self, handle: int) -> None:
        """Forget a handle."""
        self._open.pop(handle, None)
