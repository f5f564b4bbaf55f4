"""The trees that are stacked, and the directories of theirs that are held open.

A `Tree` is what the union asks of a lower; `DirTree` is one that is a directory of the host. Handles of directories are
integers that only their own tree understands (for a DirTree: file descriptors), so that an image can be a lower without
a mount. A `Ref` reaches one object of a tree for its xattrs; handles of open files are the business of `opened`.
"""

import errno
import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from itertools import islice
from typing import Any, Final, Protocol

from layerfs.sys import dirs
from layerfs.union.opened import Handle
from layerfs.union.shown import Attributes
from layerfs.union.whiteout import PLAIN, DirMarks, is_whiteout, marks_of, names_whiteout

Ref = Any  # a tree's own; of a DirTree: a path that is not followed (bytes), or a descriptor


AT_ONCE: Final = 2048  # names of a directory that are read in one go: some 2 ms


class Kind(IntEnum):
    """What one layer has at a name, as far as merging is concerned."""

    OTHER = 0
    DIRECTORY = 1
    WHITEOUT = 2


class Tree(Protocol):
    """A read-only tree as the union sees it: names in open directories, and the bytes of files.

    Every method raises OSError; only FileNotFoundError means that a name is absent.
    """

    index: int
    override: str | None
    path: bytes  # of the directory or image
    device: int  # sets its inode numbers apart from those of other trees

    def root(self) -> int:
        """Return the handle of the root directory, which stays open as long as the tree."""

    def open_dir(self, at: int, name: bytes) -> int:
        """Open a directory; never through a symlink."""

    def hold_dir(self, handle: int) -> int:
        """Return a second handle of an open directory, which stays good when its name goes."""

    def close_dir(self, handle: int) -> None:
        """Close what open_dir or hold_dir gave."""

    def scan(self, handle: int, *, xattr_whiteouts: bool) -> Iterable[tuple[bytes, Kind]]:
        """List a directory without `.` and `..`, in any order, with `.wh.` names as they are."""

    def marks(self, handle: int) -> DirMarks:
        """Read a directory's marks."""

    def lstat(self, at: int, name: bytes) -> Attributes:
        """Stat a name without following it."""

    def stat_dir(self, handle: int) -> Attributes:
        """Stat an open directory."""

    def statvfs(self) -> os.statvfs_result:
        """Return the filesystem's size and free space."""

    def readlink(self, at: int, name: bytes) -> bytes:
        """Return a symlink's target."""

    def reach(self, at: int, name: bytes) -> Ref:
        """Return what a name's xattrs are read by; good as long as the directory is open."""

    def reach_dir(self, handle: int) -> Ref:
        """Return what an open directory's xattrs are read by."""

    def listxattr(self, ref: Ref) -> list[str]:
        """List all extended attributes, the private ones too; EOPNOTSUPP where there can be none."""

    def getxattr(self, ref: Ref, key: str) -> bytes:
        """Read one extended attribute; ENODATA if absent."""

    def open(self, at: int, name: bytes, flags: int) -> Handle:
        """Open a regular file's data; flags are os.O_RDONLY, or os.O_RDWR in an upper."""

    def pin(self, at: int, name: bytes) -> Handle:
        """Hold on to an object of any type whose name is about to go."""

    def close(self) -> None:
        """Release the tree."""


class DirTree:
    """A directory of the host as a tree."""

    __slots__ = ("_root", "device", "index", "override", "path")

    def __init__(self, path: bytes, index: int) -> None:
        self.path = path
        self.index = index
        self.override: str | None = None
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.device = os.fstat(self._root).st_dev

    def root(self) -> int:
        return self._root

    def open_dir(self, at: int, name: bytes) -> int:
        return dirs.open_directory(at, name)

    def hold_dir(self, handle: int) -> int:
        return os.dup(handle)

    def close_dir(self, handle: int) -> None:
        os.close(handle)

    def scan(self, handle: int, *, xattr_whiteouts: bool) -> Iterable[tuple[bytes, Kind]]:
        try:
            return self._scan(handle, xattr_whiteouts)
        except OSError as error:
            if error.errno == errno.EBADF and dirs.is_path_only(handle):  # opened for its attributes only
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
            raise

    def _scan(self, handle: int, xattr_whiteouts: bool) -> Iterable[tuple[bytes, Kind]]:
        """List the first names at once; of a larger directory the rest is read as it is asked for."""
        with os.scandir(handle) as entries:
            found = self._kinds(handle, islice(entries, AT_ONCE), xattr_whiteouts)
        if len(found) < AT_ONCE:
            return found
        # Opened anew, not duplicated: copies of a descriptor share the position in the directory.
        fresh = os.open(dirs.held(handle), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        rest = self._scan_held(fresh, xattr_whiteouts)
        next(rest)  # from here on it closes its descriptor, whatever becomes of it
        return rest

    def _scan_held(self, handle: int, xattr_whiteouts: bool) -> Iterator[tuple[bytes, Kind]]:
        """List all names of a directory that this owns, after a first item that is none."""
        try:
            yield b"", Kind.OTHER
            with os.scandir(handle) as entries:
                while found := self._kinds(handle, islice(entries, AT_ONCE), xattr_whiteouts):
                    yield from found
        finally:
            os.close(handle)

    def _kinds(
        self, handle: int, entries: "Iterator[os.DirEntry[str]]", xattr_whiteouts: bool
    ) -> list[tuple[bytes, Kind]]:
        encode = os.fsencode
        found = []
        for entry in entries:
            name = encode(entry.name)
            if entry.is_dir(follow_symlinks=False):
                found.append((name, Kind.DIRECTORY))
            elif entry.is_symlink() or (entry.is_file(follow_symlinks=False) and not xattr_whiteouts):
                found.append((name, Kind.OTHER))
            else:
                found.append((name, self._odd(handle, name, xattr_whiteouts)))
        return found

    def _odd(self, handle: int, name: bytes, xattr_whiteouts: bool) -> Kind:
        """Look closer at a name that may be a whiteout."""
        st = dirs.lstat_or_none(handle, name)
        if st is None or is_whiteout(st):
            return Kind.WHITEOUT
        if xattr_whiteouts and st.st_size == 0 and names_whiteout(dirs.xattrs(dirs.path_of(handle, name))):
            return Kind.WHITEOUT
        return Kind.OTHER

    def marks(self, handle: int) -> DirMarks:
        names = dirs.xattrs(handle)
        return marks_of(names, lambda key: dirs.getxattr_or_none(handle, key)) if names else PLAIN

    def lstat(self, at: int, name: bytes) -> os.stat_result:
        return os.lstat(name, dir_fd=at)

    def stat_dir(self, handle: int) -> os.stat_result:
        return os.fstat(handle)

    def statvfs(self) -> os.statvfs_result:
        return os.fstatvfs(self._root)

    def readlink(self, at: int, name: bytes) -> bytes:
        return os.readlink(name, dir_fd=at)

    def reach(self, at: int, name: bytes) -> Ref:
        return dirs.path_of(at, name)

    def reach_dir(self, handle: int) -> Ref:
        return dirs.held(handle)  # unlike the descriptor, good where that is O_PATH

    def listxattr(self, ref: Ref) -> list[str]:
        return os.listxattr(ref, follow_symlinks=dirs.follows(ref))

    def getxattr(self, ref: Ref, key: str) -> bytes:
        return os.getxattr(ref, key, follow_symlinks=dirs.follows(ref))

    def open(self, at: int, name: bytes, flags: int) -> int:
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # never hang on what became a FIFO
        try:
            return os.open(name, flags | os.O_NOATIME, dir_fd=at)
        except PermissionError:  # O_NOATIME is for the owner only
            return os.open(name, flags, dir_fd=at)

    def pin(self, at: int, name: bytes) -> int:
        return dirs.pin(at, name)

    def close(self) -> None:
        os.close(self._root)


def xattrs(tree: Tree, ref: Ref) -> list[str]:
    """List the extended attributes of one object of a tree; none where unsupported."""
    try:
        return tree.listxattr(ref)
    except OSError as error:
        if error.errno in dirs.NO_XATTRS:
            return []
        raise


def getxattr_or_none(tree: Tree, ref: Ref, key: str) -> bytes | None:
    """Read an extended attribute of one object of a tree; None when it is absent or cannot exist."""
    try:
        return tree.getxattr(ref, key)
    except OSError as error:
        if error.errno in dirs.NO_XATTR:
            return None
        raise


class Part:
    """One layer's share of a merged directory: where it is, and its handle while it is open."""

    __slots__ = ("fd", "fresh", "name", "parent", "tree")

    def __init__(self, tree: Tree, parent: "Part | None", name: bytes, fd: int = -1) -> None:
        self.tree = tree
        self.parent = parent
        self.name = name
        self.fd = fd
        self.fresh = False

    @property
    def is_upper(self) -> bool:
        """Whether this is the upper's share."""
        return self.tree.index == 0

    def path(self) -> bytes:
        """Return the absolute path from the layer's root, where this layer itself has the directory."""
        names = []
        part: Part | None = self
        while part is not None and part.parent is not None:
            names.append(part.name)
            part = part.parent
        return b"/" + b"/".join(reversed(names))


class Parts:
    """The shares that the layers have in one merged directory."""

    __slots__ = ("lowers", "upper")

    def __init__(self, upper: Part | None = None, lowers: list[Part] | None = None) -> None:
        self.upper = upper  # None while nothing below was ever changed
        self.lowers = [] if lowers is None else lowers

    def all(self) -> list[Part]:
        """Return all shares, top first."""
        return self.lowers if self.upper is None else [self.upper, *self.lowers]

    @property
    def top(self) -> Part:
        """The share whose attributes the directory shows."""
        return self.lowers[0] if self.upper is None else self.upper

    @property
    def is_merged(self) -> bool:
        """Whether a lower has a share beside the upper's."""
        return bool(self.lowers) and self.upper is not None


class Handles:
    """Keeps at most `limit` directories of the layers open; the rest are opened again when they are needed.

    Eviction gives each directory a second chance (clock), so that a hit costs one attribute.
    """

    __slots__ = ("_held", "_queue", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0
        self._queue: deque[Part] = deque()

    def fd(self, part: Part) -> int:
        """Return an open handle of a part; good until the next call that may evict it."""
        if part.fd >= 0:
            part.fresh = True
            return part.fd
        chain = []
        step: Part | None = part
        while step is not None and step.fd < 0:
            chain.append(step)
            step = step.parent
        if step is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        for link in reversed(chain):
            self._open(link, step.fd)
            step = link
        return part.fd

    def _open(self, part: Part, at: int) -> None:
        try:
            part.fd = part.tree.open_dir(at, part.name)
        except OSError as error:
            if error.errno != errno.EMFILE or self._held:
                raise
            self.shrink(len(self._queue) // 2, part.parent)
            part.fd = part.tree.open_dir(at, part.name)
        self._enqueue(part)

    def keep(self, part: Part, fd: int) -> None:
        """Take over a handle that was opened elsewhere."""
        part.fd = fd
        self._enqueue(part)

    def _enqueue(self, part: Part) -> None:
        part.fresh = True
        self._queue.append(part)
        if len(self._queue) > self.limit and not self._held:
            self.shrink(self.limit, part)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Close nothing meanwhile: handles are in use elsewhere, and a number closed is a number reused. Nests."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if not self._held and len(self._queue) > self.limit:
                self.shrink(self.limit)

    def shrink(self, size: int, spared: Part | None = None) -> None:
        """Close the coldest directories until at most `size` stay open; `spared` is in use."""
        queue = self._queue
        for _ in range(2 * len(queue)):  # each gets one second chance
            if len(queue) <= size:
                return
            part = queue.popleft()
            if part.fd < 0:
                continue
            if part.fresh or part is spared:
                part.fresh = False
                queue.append(part)
            else:
                self.drop(part)

    def drop(self, part: Part) -> None:
        """Close a part now; its place in the queue empties itself."""
        if part.fd >= 0 and part.parent is not None:
            fd, part.fd = part.fd, -1
            part.tree.close_dir(fd)

    def open_parts(self) -> int:
        """Return how many directories are open, the roots aside."""
        return len({id(part) for part in self._queue if part.fd >= 0})

    def close(self) -> None:
        """Close every directory that is not a root."""
        while self._queue:
            self.drop(self._queue.popleft())
