"""Directories that clients have open, each with the names as they were when it was last read from its beginning.

A cookie is the position of the next name, plus two for `.` and `..`; so names must not move while a handle is read.

Handles share the names they have in common, or a client that opens a large directory often would exhaust our memory.
Handles that were opened between two changes share all of them. Where a directory has changed, its names are cut into
chunks, and chunks without a change are shared. Chunks begin at names whose hash says so: a name more or less then
changes one chunk, not all that follow it. Python's hash of bytes has a secret, so no client can choose such names.
"""

from collections.abc import Iterator, Sequence
from typing import Final
from weakref import WeakValueDictionary

CHUNK_MASK: Final = 127  # of a name's hash; a chunk has 128 names on average

Chunk = tuple[bytes, ...]


class Names:
    """The names of a directory at one moment."""

    __slots__ = ("__weakref__", "_chunks", "_count")

    def __init__(self, names: Sequence[bytes]) -> None:
        self._chunks: list[Chunk] = [tuple(names)]
        self._count = len(names)

    def __len__(self) -> int:
        return self._count

    def since(self, position: int) -> Iterator[bytes]:
        """Yield the names from a position on."""
        for chunk in self._chunks:
            for index in range(max(position, 0), len(chunk)):  # no slice: all that follows would be copied
                yield chunk[index]
            position = max(position - len(chunk), 0)

    def part(self, begin: int, end: int) -> list[bytes]:
        """Return the names at the positions from `begin` to before `end`."""
        found: list[bytes] = []
        for name in self.since(begin):
            if len(found) >= end - begin:
                break
            found.append(name)
        return found

    def is_same(self, names: Sequence[bytes]) -> bool:
        """Tell whether these are just those names, in that order."""
        if len(names) != self._count:
            return False
        begin = 0
        for chunk in self._chunks:
            if chunk != tuple(names[begin : begin + len(chunk)]):
                return False
            begin += len(chunk)
        return True

    def share(self, other: "Names") -> None:
        """Use the chunks of another moment of the directory where they are the same."""
        self._split()
        other._split()
        known = {chunk[0]: chunk for chunk in other._chunks if chunk}
        for index, chunk in enumerate(self._chunks):
            if chunk and known.get(chunk[0]) == chunk:
                self._chunks[index] = known[chunk[0]]

    def _split(self) -> None:
        """Cut into chunks, unless that was done before."""
        if len(self._chunks) > 1 or not self._count:
            return
        (whole,) = self._chunks
        cuts = [index for index, name in enumerate(whole) if index and not hash(name) & CHUNK_MASK]
        self._chunks = [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


class Listing:
    """One open directory."""

    __slots__ = ("ino", "names")

    def __init__(self, ino: int) -> None:
        self.ino = ino
        self.names: Names | None = None  # None until it is read


class Listings:
    """All directories that are open, by handle."""

    def __init__(self) -> None:
        self._open: dict[int, Listing] = {}
        self._of: dict[int, set[int]] = {}  # handles by the directory's number
        self._last = 0
        self._latest: WeakValueDictionary[int, Names] = WeakValueDictionary()  # by the directory's number

    def open(self, ino: int) -> int:
        """Return a new handle of a directory."""
        self._last += 1
        self._open[self._last] = Listing(ino)
        self._of.setdefault(ino, set()).add(self._last)
        return self._last

    def __getitem__(self, handle: int) -> Listing:
        return self._open[handle]

    def rewind(self, handle: int, names: Sequence[bytes]) -> Names:
        """Begin to read a directory anew, now that it has these names."""
        listing = self._open[handle]
        latest = self._latest.get(listing.ino)
        if latest is not None and latest.is_same(names):
            listing.names = latest
            return latest
        fresh = Names(names)
        if latest is not None:
            fresh.share(latest)
        self._latest[listing.ino] = listing.names = fresh
        return fresh

    def settle(self, ino: int, names: Sequence[bytes]) -> None:
        """Give the handles of a directory that somebody else answered for its names, in the order that he used."""
        for handle in self._of.get(ino, ()):
            if self._open[handle].names is None:
                self.rewind(handle, names)

    def close(self, handle: int) -> None:
        """Forget a handle."""
        listing = self._open.pop(handle, None)
        if listing is not None:
            others = self._of[listing.ino]
            others.discard(handle)
            if not others:
                del self._of[listing.ino]
