"""The trees that are stacked, and the directories of theirs that are held open.

A `Tree` is what the union asks of a lower; `DirTree` is one that is a directory of the host. Handles of directories are
integers that only their own tree understands (for a DirTree: file descriptors), so that an image can be a lower without
a mount. A `Ref` reaches one object of a tree for its xattrs; handles of open files are the business of `opened`.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import IntEnum
from itertools import islice
from typing import Any, Final, Protocol

from layerfs.sys import dirs, target
from layerfs.union.mark_trust import ALL, MarkTrust
from layerfs.union.opened import Handle
from layerfs.union.shown import Attributes
from layerfs.union.whiteout import PLAIN, DirMarks, is_whiteout, marks_of, names_whiteout
from layerfs.value import replace

Ref = Any  # a tree's own; of a DirTree: a path that is not followed (bytes), or a descriptor
Expected = Callable[[os.stat_result], bool]


AT_ONCE: Final = 2048  # names of a directory that are read in one go: some 2 ms


class Kind(IntEnum):
    """What one layer has at a name, as far as merging is concerned."""

    OTHER = 0
    DIRECTORY = 1
    WHITEOUT = 2


class NativeSource(Protocol):
    """Functions of C that answer for a tree that is no directory of the host; each object is known by a reference.

    Only a front (front.py) calls them; the lane's lane.h says how. `keep` keeps them good.
    """

    @property
    def calls(self) -> tuple[int, int, int, int]:
        """The address of what they are called with, and theirs: stat, link, read; 0 for a read that takes long."""

    @property
    def keep(self) -> object: ...

    def names(self, handle: int) -> Mapping[bytes, int]:
        """Return the references of what an open directory has; a name without one is left to the tree."""

    def directory(self, handle: int) -> int:
        """Return the reference of an open directory."""


class Tree(Protocol):
    """A read-only tree as the union sees it: names in open directories, and the bytes of files.

    Every method raises OSError; only FileNotFoundError means that a name is absent.
    """

    index: int
    override: str | None
    mark_trust: MarkTrust  # in redirects
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

    def open(self, at: int, name: bytes, flags: int, is_expected: Expected | None = None) -> Handle:
        """Open a regular file's data; flags are os.O_RDONLY, or os.O_RDWR in an upper.

        ESTALE for anything but a regular file, and for one that is not expected. A tree that cannot change does not
        ask whether it is.
        """

    def pin(self, at: int, name: bytes, is_expected: Expected | None = None) -> Handle:
        """Hold on to an object of any type whose name is about to go. ESTALE if it is not the one expected."""

    def source(self) -> NativeSource | None:
        """Return what answers for the tree's objects in C; None for a directory of the host, or if there is nothing."""

    def lends_rights(self) -> bool:
        """Tell whether setuid and setgid programs of the tree would work on the host: their owners are real."""

    def close(self) -> None:
        """Release the tree."""


class DirTree:
    """A directory of the host as a tree."""

    __slots__ = ("_root", "device", "index", "mark_trust", "override", "path")

    def __init__(self, path: bytes, index: int, root: int = -1) -> None:
        """Open a directory; or take over `root`, a descriptor of it."""
        self.path = path
        self.index = index
        self.override: str | None = None
        self.mark_trust = ALL
        self._root = root if root >= 0 else os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
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
        fresh = target.reopen(handle, os.O_RDONLY | os.O_DIRECTORY)
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
        if not names:
            return PLAIN
        marks = marks_of(names, lambda key: dirs.getxattr_or_none(handle, key), self.mark_trust.prefixes)
        if marks.redirect is not None and not self.mark_trust.covers(os.fstat(handle)):
            return replace(marks, redirect=None)
        return marks

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
        return target.listxattr(ref)

    def getxattr(self, ref: Ref, key: str) -> bytes:
        return target.getxattr(ref, key)

    def open(self, at: int, name: bytes, flags: int, is_expected: Expected | None = None) -> int:
        return dirs.open_regular(at, name, flags, is_expected)

    def pin(self, at: int, name: bytes, is_expected: Expected | None = None) -> int:
        fd = dirs.pin(at, name)
        if is_expected is None or is_expected(os.fstat(fd)):
            return fd
        os.close(fd)
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), name)

    def source(self) -> None:
        return None

    def lends_rights(self) -> bool:
        return not os.fstatvfs(self._root).f_flag & os.ST_NOSUID

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
    """One layer's share of a merged directory: where it is, and its handle while it is open.

    `seen` is the fingerprint of the directory that the name must lead to when it is opened again; 0 for any.
    `handed` is the number and the index under which a front (front.py) knows it.
    """

    __slots__ = ("fd", "fresh", "handed", "name", "parent", "seen", "tree")

    def __init__(self, tree: Tree, parent: "Part | None", name: bytes, fd: int = -1) -> None:
        self.tree = tree
        self.parent = parent
        self.name = name
        self.fd = fd
        self.fresh = False
        self.seen = 0
        self.handed: tuple[int, int] | None = None

    @property
    def is_upper(self) -> bool:
        """Whether this is the upper's share."""
        return self.tree.index == 0

    @property
    def can_change(self) -> bool:
        """Whether the name may lead to another directory by now: not that of a root, which is open, nor in an image."""
        return self.parent is not None and isinstance(self.tree, DirTree)

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
        """The share whose attributes the directory shows; ESTALE if none is left of a removed one."""
        if self.upper is not None:
            return self.upper
        if not self.lowers:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return self.lowers[0]

    @property
    def is_merged(self) -> bool:
        """Whether a lower has a share beside the upper's."""
        return bool(self.lowers) and self.upper is not None
