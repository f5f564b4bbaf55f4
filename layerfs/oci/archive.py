"""The members of a tar archive on disk by name: read once for its headers, then each member where it is.

Nothing is extracted. Symlinks between members are followed within the archive; a hard link, or a name or link that
leads out of it, is refused.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from layerfs.errors import Corrupt, NotFound
from layerfs.oci.streams import PIECE, Read
from layerfs.oci.tar import HARD_LINK, TarReader

MEMBERS_MAX: Final = 100_000  # guessed; an image has a few for each layer
LINKS_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Span:
    """Where a member's bytes are in the archive."""

    offset: int
    size: int


class Archive:
    """An archive as a file that is open, and stays the caller's."""

    def __init__(self, fd: int, check: Callable[[], None] = lambda: None) -> None:
        self._fd = fd
        self._files: dict[bytes, Span] = {}
        self._links: dict[bytes, bytes] = {}
        self._index(check)

    def _index(self, check: Callable[[], None]) -> None:
        pieces = _Pieces(self._fd)
        size = os.fstat(self._fd).st_size
        reader = TarReader(pieces, pieces.skip)
        for count, member in enumerate(reader):
            check()
            if count >= MEMBERS_MAX:
                raise Corrupt(f"the archive has more than {MEMBERS_MAX} members")
            name = _inside(b"", member.path)
            if member.kind == stat.S_IFREG and member.extents is None:
                if reader.position + member.size > size:
                    raise Corrupt("the archive ends in the middle of a file")
                self._files[name] = Span(reader.position, member.size)
                self._links.pop(name, None)
            elif member.kind == stat.S_IFLNK:
                self._links[name] = member.target
                self._files.pop(name, None)
            elif member.kind == HARD_LINK:
                raise Corrupt(f"the archive has a hard link: {os.fsdecode(name)}")

    def __contains__(self, name: bytes) -> bool:
        return name in self._files

    def find(self, name: bytes) -> Span:
        """Return where a member is. Raises NotFound; Corrupt if it is a link out of the archive."""
        name = _inside(b"", name)
        for _ in range(LINKS_MAX):
            if name in self._files:
                return self._files[name]
            if name not in self._links:
                raise NotFound(f"the archive has no {os.fsdecode(name)}")
            name = _inside(os.path.dirname(name), self._links[name])
        raise Corrupt(f"the archive has too many links at {os.fsdecode(name)}")

    def read(self, name: bytes, most: int) -> bytes:
        """Return a small member. Raises NotFound, Corrupt if it is larger than it may be."""
        span = self.find(name)
        if span.size > most:
            raise Corrupt(f"{os.fsdecode(name)} in the archive has {span.size} bytes")
        read = self.reader(span)
        return b"".join(iter(lambda: read(PIECE), b""))

    def reader(self, span: Span) -> Read:
        """Return the function that reads on in a member, from its beginning."""
        at, end = span.offset, span.offset + span.size

        def read(count: int) -> bytes:
            nonlocal at
            piece = os.pread(self._fd, min(count, end - at), at)
            if not piece and at < end:
                raise Corrupt("the archive became shorter while it was read")
            at += len(piece)
            return piece

        return read


class _Pieces:
    """An archive's bytes in order; `skip` passes over some of them."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = os.pread(self._fd, 16 << 10, self._at)
        if not piece:
            raise StopIteration
        self._at += len(piece)
        return piece

    def skip(self, count: int) -> None:
        self._at += count


def _inside(base: bytes, path: bytes) -> bytes:
    """Return a path in the archive, of which `base` is where it begins. Raises Corrupt if it leads out."""
    if path.startswith(b"/"):
        raise Corrupt(f"the archive has an absolute name or link: {os.fsdecode(path)}")
    parts = base.split(b"/") if base else []
    for part in path.split(b"/"):
        if part == b"..":
            if not parts:
                raise Corrupt(f"the archive has a name or link that leads out: {os.fsdecode(path)}")
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)
