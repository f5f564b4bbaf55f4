"""Directories that clients have open, each with the names as they were when it was last read from its beginning.

A cookie is the position of the next name, plus two for `.` and `..`; so names must not move while a handle is read.
Handles that were opened between two changes of a directory share one list of its names.
"""

from collections.abc import Callable
from typing import Final

NO_LISTING: Final = 0  # no handle has this number


class Listing:
    """One open directory."""

    __slots__ = ("ino", "names")

    def __init__(self, ino: int) -> None:
        self.ino = ino
        self.names: list[bytes] | None = None  # None until it is read


class Listings:
    """All directories that are open, by handle."""

    def __init__(self) -> None:
        self._open: dict[int, Listing] = {}
        self._last = NO_LISTING

    def open(self, ino: int) -> int:
        """Return a new handle of a directory."""
        self._last += 1
        self._open[self._last] = Listing(ino)
        return self._last

    def __getitem__(self, handle: int) -> Listing:
        return self._open[handle]

    def rewind(self, handle: int, names: Callable[[int], list[bytes]]) -> list[bytes]:
        """Read a directory anew: `names` lists the directory of a number."""
        listing = self._open[handle]
        listing.names = names(listing.ino)
        return listing.names

    def close(self, handle: int) -> None:
        """Forget a handle."""
        self._open.pop(handle, None)
