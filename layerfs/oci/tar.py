"""A tar read entry by entry from a stream that need not be seekable; memory does not grow with it.

Every deviation is an error, never an early end: a bad header, a lone block of zeros, data that end early. What stands
behind the two zero blocks at the end is read (it belongs to the digest) and means nothing. No end blocks are fine.
"""

import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from layerfs.errors import Corrupt
from layerfs.oci import sparse
from layerfs.oci.header import BLOCK, SIZE_MAX, ZERO, TarHeader, parse_header, small
from layerfs.oci.pax import RECORDS_MAX, SPARSE, XATTR, bounded_time, decimal, nanoseconds, parse_records

HARD_LINK: Final = 0  # in place of a type of file
PATH_MAX: Final = 32 << 10  # bytes; guessed: eight times what one system call takes
ID_MAX: Final = 0xFFFFFFFE  # one more is chown(2)'s "leave it as it is"

_KINDS: Final = {
    b"0": stat.S_IFREG, b"7": stat.S_IFREG, b"\0": stat.S_IFREG, b"S": stat.S_IFREG,
    b"1": HARD_LINK, b"2": stat.S_IFLNK, b"3": stat.S_IFCHR, b"4": stat.S_IFBLK, b"5": stat.S_IFDIR, b"6": stat.S_IFIFO,
}  # fmt: skip
_GLOBAL: Final = (b"uid", b"gid", b"mtime")  # of all entries; nobody writes others, and a path for all makes no sense


@dataclass(slots=True)
class Member:
    """One entry: `path` and `target` as they were written. size: of the file as it will be, holes counted."""

    path: bytes
    kind: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    target: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    extents: sparse.Extents | None = None


class TarReader:
    """Iterate over the members of a tar; `data` gives the current one's bytes, and must not be kept.

    skip: passes over bytes that nobody wants, where the stream can do that.
    """

    def __init__(self, pieces: Iterable[bytes], skip: Callable[[int], object] | None = None) -> None:
        self._pieces = self._counted(pieces)
        self._skip_ahead = skip
        self._given = 0  # bytes of the stream behind us, with the current piece
        self._piece = b""
        self._at = 0
        self._left = 0  # bytes of the current member's data that nobody took
        self._padding = 0
        self._globals: dict[bytes, bytes] = {}

    def __iter__(self) -> Iterator[Member]:
        while (block := self._next_block()) is not None:
            member = self._member(block)
            if member is None:
                break
            yield member
        while next(self._pieces, b""):
            pass

    def _counted(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._given += len(piece)
            yield piece

    @property
    def position(self) -> int:
        """Where in the stream the current member's data begin, if none were taken."""
        return self._given - len(self._piece) + self._at

    def data(self) -> Iterator[memoryview]:
        """Yield the current member's stored bytes in pieces, of a sparse file those of its extents."""
        while self._left:
            piece = self._some(self._left)
            self._left -= len(piece)
            yield piece

    def ahead(self) -> tuple[bytes, int] | None:
        """Return the bytes at hand, and where in them the next header is; None if that must be read first.

        None too where a header does not say all of an entry. The current member's data are behind us then.
        """
        passed = self._left + self._padding
        if self._globals or self._at + passed + BLOCK > len(self._piece):
            return None
        self._at += passed
        self._left = self._padding = 0
        return self._piece, self._at

    def go_on(self, at: int) -> None:
        """Go on with another header of the bytes at hand, somebody else having read those before it."""
        self._at = at

    def _next_block(self) -> bytes | None:
        """Return the next header block; None at the end."""
        self._skip(self._left + self._padding)
        self._left = self._padding = 0
        block = self._block()
        if block != ZERO:
            return block
        second = self._block()
        if second not in (None, ZERO):
            raise Corrupt("a tar has a single block of zeros in the middle")
        return None

    def _block(self) -> bytes | None:
        if self._at + BLOCK <= len(self._piece):
            self._at += BLOCK
            return self._piece[self._at - BLOCK : self._at]
        rest = self._piece[self._at :]
        self._piece, self._at = rest + next(self._pieces, b""), 0
        while len(self._piece) < BLOCK:
            more = next(self._pieces, b"")
            if not more:
                if self._piece:
                    raise Corrupt("the tar ends in the middle of a header")
                return None
            self._piece += more
        self._at = BLOCK
        return self._piece[:BLOCK]

    def _some(self, most: int) -> memoryview:
        """Return up to so many of the next bytes, at least one."""
        if self._at == len(self._piece):
            self._piece, self._at = next(self._pieces, b""), 0
            if not self._piece:
                raise Corrupt("the tar ends in the middle of a file")
        end = min(self._at + most, len(self._piece))
        view = memoryview(self._piece)[self._at : end]
        self._at = end
        return view

    def _skip(self, count: int) -> None:
        here = min(count, len(self._piece) - self._at)
        self._at, count = self._at + here, count - here
        if count and self._skip_ahead is not None:
            self._skip_ahead(count)
            self._given += count
            return
        while count:
            count -= len(self._some(count))

    def _take(self, count: int) -> bytes:
        """Return exactly so many bytes of the current data."""
        if count > self._left:
            raise Corrupt("a tar entry is shorter than what it must hold")
        found = b""
        while len(found) < count:
            found += self._some(count - len(found))
        self._left -= count
        return found

    def _expect_data(self, size: int) -> None:
        self._left, self._padding = size, -size % BLOCK

    def _member(self, block: bytes) -> Member | None:
        """Return the next entry proper, with what the extended headers before it say; None at the end."""
        records: list[tuple[bytes, bytes]] = []
        names: dict[bytes, bytes] = {}
        while True:
            header = parse_header(block)
            if header.type in (b"x", b"X"):
                records += parse_records(self._extended(header))
            elif header.type == b"g":
                self._globals |= dict(parse_records(self._extended(header)))
            elif header.type in (b"L", b"K"):
                names[header.type] = self._extended(header).partition(b"\0")[0]
            else:
                return self._finish(block, header, records, names)
            following = self._next_block()
            if following is None:
                if header.type == b"g":
                    return None
                raise Corrupt("the tar ends behind an extended header")
            block = following

    def _extended(self, header: TarHeader) -> bytes:
        if header.size > RECORDS_MAX:
            raise Corrupt(f"a tar has an extended header of {header.size} bytes")
        self._expect_data(header.size)
        return self._take(header.size)

    def _finish(
        self, block: bytes, header: TarHeader, records: list[tuple[bytes, bytes]], names: dict[bytes, bytes]
    ) -> Member:
        kind = _KINDS.get(header.type)
        if kind is None:
            raise Corrupt(f"a tar entry has the unknown type {header.type!r}")
        said = dict(records)
        path = names.get(b"L") or said.get(b"path") or header.name
        if header.type == b"\0" and path.endswith(b"/"):  # version 7 had no directories
            kind = stat.S_IFDIR
        if not path or len(path) > PATH_MAX:
            raise Corrupt(f"a tar entry has a name of {len(path)} bytes")
        member = Member(path, kind, header.mode, small(header.uid), small(header.gid), header.mtime * 10**9)
        if records or self._globals:
            self._overrule(member, said)
        bounded_time(member.mtime_ns)
        if not (0 <= member.uid <= ID_MAX and 0 <= member.gid <= ID_MAX):
            raise Corrupt(f"a tar entry has owner {member.uid}:{member.gid}")
        if kind in (HARD_LINK, stat.S_IFLNK):
            member.target = names.get(b"K") or said.get(b"linkpath") or header.link
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            member.major, member.minor = small(header.major), small(header.minor)
        elif kind == stat.S_IFREG:
            self._content(member, block, header, records, said)
        return member

    def _overrule(self, member: Member, said: dict[bytes, bytes]) -> None:
        for key in _GLOBAL:
            value = said.get(key, self._globals.get(key))
            if not value:  # an empty one takes a record back
                continue
            if key == b"mtime":
                member.mtime_ns = nanoseconds(value)
            else:
                setattr(member, key.decode(), decimal(value))
        for key, value in said.items():
            if key.startswith(XATTR):
                member.xattrs[key[len(XATTR) :]] = value

    def _content(
        self,
        member: Member,
        block: bytes,
        header: TarHeader,
        records: list[tuple[bytes, bytes]],
        said: dict[bytes, bytes],
    ) -> None:
        """Set size and map, and get ready for the data."""
        stored = decimal(said[b"size"]) if said.get(b"size") else header.size
        if stored > SIZE_MAX:
            raise Corrupt(f"a tar entry has {stored} bytes")
        member.size = stored
        if header.type == b"S":
            member.size, member.extents = sparse.old_gnu(block, self._map_block)
        self._expect_data(stored)
        if said.get(SPARSE + b"major") == b"1":
            member.size = decimal(said.get(SPARSE + b"realsize", b""))
            _, member.extents = sparse.leading(self._take, stored, member.size)
        elif member.extents is None and (found := sparse.in_records(records)):
            member.size, member.extents = found
        if member.extents is not None:
            member.path = said.get(SPARSE + b"name") or member.path
            if sum(length for _, length in member.extents) != self._left:
                raise Corrupt("a sparse file has other data than its map says")

    def _map_block(self, count: int) -> bytes:
        block = self._block()
        if block is None:
            raise Corrupt("the tar ends in the middle of a sparse file's map")
        return block
