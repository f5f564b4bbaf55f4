"""One layer or tree read as it stands: directories or an image, with all marks of overlays as they are on disk.

Everything is reached by a path whose components are no symlinks, from a bounded number of open directories; only
regular files are opened.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol, Self

from layerfs.errors import Corrupt
from layerfs.oci.paths import split
from layerfs.oci.sparse import EXTENTS_MAX, Extents
from layerfs.oci.streams import PIECE
from layerfs.oci.tar import Member
from layerfs.pysquashfs.recent import Recent
from layerfs.union import opened
from layerfs.union.layers import Tree, getxattr_or_none, xattrs
from layerfs.union.options import UnionOptions
from layerfs.union.owners import Owners
from layerfs.union.shown import Attributes
from layerfs.union.whiteout import is_whiteout, names_whiteout

OPEN: Final = 128  # directories that are kept open
HOLES: Final = 1 << 20  # bytes; with fewer a file is written whole, which every reader understands


@dataclass(frozen=True, slots=True)
class Seen:
    """What stands at a path, and what tells one file from another; `status` is as it is on disk."""

    member: Member
    status: Attributes

    @property
    def identity(self) -> tuple[int, int]:
        """Which file it is."""
        return self.status.st_dev, self.status.st_ino

    @property
    def is_linked(self) -> bool:
        """Whether it has more than one name."""
        return self.status.st_nlink > 1 and self.member.kind != stat.S_IFDIR

    @property
    def is_whiteout(self) -> bool:
        """Whether an overlay takes it for a whiteout, if it is a device."""
        return is_whiteout(self.status)

    @property
    def is_marked_whiteout(self) -> bool:
        """Whether an overlay takes it for a whiteout in a directory that has such."""
        return not self.member.size and names_whiteout([os.fsdecode(name) for name in self.member.xattrs])

    def mark(self, key: bytes) -> bytes | None:
        """Return what an xattr of overlays says."""
        for prefix in (b"trusted.overlay.", b"user.overlay."):
            if (value := self.member.xattrs.get(prefix + key)) is not None:
                return value
        return None


class View(Protocol):
    """A tree that is compared or written out."""

    def look(self, path: bytes) -> Seen | None:
        """Return what is at a path; None if nothing is, or if a parent is no directory."""

    def names(self, path: bytes) -> list[bytes]:
        """List a directory, in no order."""

    def data(self, path: bytes) -> Iterator[memoryview]:
        """Yield all bytes of a regular file."""


class RawView:
    """One tree as it is on disk; `tree` is closed with it."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._owners = Owners(UnionOptions())
        self._owners.adopt(tree)
        self._open: Recent[bytes, int] = Recent(OPEN, let_go=tree.close_dir)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the tree."""
        self._open.drop_all()
        self._tree.close()

    def root(self) -> Seen:
        """Return what its root is."""
        root = self._tree.root()
        return self._seen(b"", self._tree.stat_dir(root), self._tree.reach_dir(root))

    def look(self, path: bytes) -> Seen | None:
        if not path:
            return self.root()
        above, name = split(path)
        at = self._directory(above)
        if at is None:
            return None
        try:
            st = self._tree.lstat(at, name)
        except FileNotFoundError:
            return None
        seen = self._seen(path, st, self._tree.reach(at, name))
        if stat.S_ISLNK(st.st_mode):
            seen.member.target = self._tree.readlink(at, name)
        return seen

    def _seen(self, path: bytes, status: Attributes, ref: object) -> Seen:
        shown = self._owners.stored(self._tree, ref, status)
        member = member_of(path, shown)
        for name in xattrs(self._tree, ref):
            value = getxattr_or_none(self._tree, ref, name)
            if value is not None:
                member.xattrs[os.fsencode(name)] = value
        return Seen(member, status)

    def find(self, path: bytes) -> Member | None:
        """Describe what is at a path; None if nothing is, or if a parent is no directory."""
        seen = self.look(path)
        return None if seen is None else seen.member

    def copy_to(self, path: bytes, target: int) -> None:
        """Copy a regular file's bytes into an empty file, reflinked where the filesystem can, holes as holes."""
        handle = self._file(path)
        try:
            opened.copy(handle, target, opened.stat(handle).st_size)
        finally:
            opened.close(handle)

    def names(self, path: bytes) -> list[bytes]:
        at = self._directory(path)
        return [] if at is None else [name for name, _ in self._tree.scan(at, xattr_whiteouts=False)]

    def data(self, path: bytes, extents: Extents | None = None) -> Iterator[memoryview]:
        """Yield the bytes of a regular file, or of some of its parts."""
        handle = self._file(path)
        try:
            for start, length in extents if extents is not None else ((0, opened.stat(handle).st_size),):
                yield from pieces_of(handle, start, start + length)
        finally:
            opened.close(handle)

    def extents(self, seen: Seen) -> Extents | None:
        """Return where a file has data; None if it has no holes worth a map."""
        if seen.status.st_blocks * 512 + HOLES > seen.member.size:
            return None
        handle = self._file(seen.member.path)
        try:
            return extents_of(handle, os.fstat(handle).st_size) if isinstance(handle, int) else None
        finally:
            opened.close(handle)

    def _file(self, path: bytes) -> opened.Handle:
        above, name = split(path)
        at = self._directory(above)
        if at is None or not stat.S_ISREG(self._tree.lstat(at, name).st_mode):
            raise Corrupt(f"{path!r} is no regular file any more")
        return self._tree.open(at, name, os.O_RDONLY)

    def _directory(self, path: bytes) -> int | None:
        """Return an open directory; None if it is none."""
        done, at = path, self._tree.root()
        while done:
            if (found := self._open.get(done)) is not None:
                at = found
                break
            done = split(done)[0]
        for name in path[len(done) :].strip(b"/").split(b"/") if done != path else ():
            try:
                at = self._tree.open_dir(at, name)
            except (FileNotFoundError, NotADirectoryError):
                return None
            done = done + b"/" + name if done else name
            self._open.put(done, at)
        return at


def member_of(path: bytes, st: Attributes) -> Member:
    """Describe a file by its status, but for symlink targets and xattrs."""
    kind, mode = stat.S_IFMT(st.st_mode), stat.S_IMODE(st.st_mode)
    member = Member(path, kind, mode, st.st_uid, st.st_gid, st.st_mtime_ns)
    if kind == stat.S_IFREG:
        member.size = st.st_size
    member.major, member.minor = os.major(st.st_rdev), os.minor(st.st_rdev)
    return member


def pieces_of(handle: opened.Handle, start: int, end: int) -> Iterator[memoryview]:
    """Yield the bytes of a part of an open file (a handle of `opened`)."""
    while start < end:
        count = min(PIECE, end - start)
        piece = os.pread(handle, count, start) if isinstance(handle, int) else handle.read(start, count)
        if not piece:
            raise Corrupt("a file became shorter while it was read")
        start += len(piece)
        yield memoryview(piece)


def extents_of(handle: int, size: int) -> Extents | None:
    """Return where an open file has data, as far as its filesystem knows; None if in too many places.

    Filesystems have whole blocks, which GNU tar needs: in a tar it has each extent begin with a block of its own.
    """
    found: list[tuple[int, int]] = []
    at = 0
    while at < size:
        try:
            start = os.lseek(handle, at, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            break
        at = min(os.lseek(handle, start, os.SEEK_HOLE), size)
        if start < at:
            found.append((start, at - start))
    return tuple(found) if len(found) < EXTENTS_MAX else None
