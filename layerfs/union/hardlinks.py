"""Lower hard links: an index of their copies, so that all names of a lower file stay one file.

Nothing on disk leads from an inode to its names, and nobody walks a tree to find them. The first copy-up of a file with
several names puts a link of the copy into the index, a directory beside the scratch directory. From then on each name
that the upper does not have leads to the copy, in this mount and the next. Kernel overlayfs keeps such a directory too
(overlayfs.rst, `index`), in a form that only it can write; it reads our uppers as it reads any other without an index.

A name is linked in the upper as soon as something changes while the kernel knows the name, so whoever reads the upper
alone finds what was written through it. An entry of the index is a name:

    NUMBER-MTIME-SIZE-OWN.LEFT      in hexadecimal: which lower file, the copy's own inode number, and how many names of
                                    the lower file are still seen through the layers

OWN 0 means that nothing was copied, and names were only removed: the entry counts. An entry goes when LEFT reaches 0.
"""

import errno
import os
import re
import stat
from contextlib import suppress
from typing import Final

from layerfs.sys import dirs
from layerfs.union.digits import KEPT_MAX
from layerfs.union.layers import DirTree, Expected, Part, Ref
from layerfs.union.shown import Attributes, Shown
from layerfs.union.whiteout import is_whiteout

INDEX: Final = b"layerfs-links"  # beside the scratch directory
_COUNTED: Final = b"counted"  # an empty file, whose links are the entries without a copy
_ENTRY: Final = re.compile(rb"([0-9a-f]{1,16})-(-?[0-9a-f]{1,20})-([0-9a-f]{1,16})-([0-9a-f]{1,16})\.([0-9a-f]{1,8})")
_NO_LINKS: Final = frozenset((errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL))
_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Entry:
    """What is known of one lower hard link."""

    __slots__ = ("left", "mtime", "name", "number", "own", "part", "size")

    def __init__(self, number: int, mtime: int, size: int, own: int, left: int) -> None:
        self.number = number
        self.mtime = mtime
        self.size = size
        self.own = own
        self.left = left
        self.part: Part | None = None
        self.name = self.name_now()  # in the index

    def name_now(self) -> bytes:
        """Return the name that the entry should have in the index; `name` is the one that it has."""
        return b"%x-%x-%x-%x.%x" % (self.number, self.mtime, self.size, self.own, self.left)

    def is_of(self, st: Attributes) -> bool:
        """Tell whether a lower file is the one that the entry was made for: the layer may have been replaced."""
        return self.mtime == st.st_mtime_ns and self.size == st.st_size


class IndexedCopy(DirTree):
    """The upper as a tree with one file: every name leads to the copy in the index."""

    __slots__ = ("_entry", "_index")

    def __init__(self, upper: DirTree, index: int, entry: Entry) -> None:  # nothing is opened
        self.path = upper.path
        self.index = 0
        self.mark_trust = upper.mark_trust
        self.override = upper.override
        self.device = upper.device
        self._root = index
        self._index = index
        self._entry = entry

    @property
    def place(self) -> tuple[int, bytes]:
        """The directory and the name in it that the copy is reached by now."""
        return self._index, self._entry.name

    def lstat(self, at: int, name: bytes) -> os.stat_result:
        return super().lstat(*self.place)

    def readlink(self, at: int, name: bytes) -> bytes:
        return super().readlink(*self.place)

    def reach(self, at: int, name: bytes) -> Ref:
        return super().reach(*self.place)

    def open(self, at: int, name: bytes, flags: int, is_expected: Expected | None = None) -> int:
        return super().open(*self.place, flags, is_expected)

    def pin(self, at: int, name: bytes, is_expected: Expected | None = None) -> int:
        return super().pin(*self.place, is_expected)

    def close(self) -> None:
        pass  # it has opened nothing


class HardLinks:
    """The index of one upper."""

    __slots__ = ("_base", "_by_number", "_by_own", "_fd", "_scratch", "_upper", "_works")

    def __init__(self, base: int, scratch: int, upper: DirTree) -> None:
        """Read the index that is in the work directory `base`, if there is one."""
        self._base = base
        self._scratch = scratch
        self._upper = upper
        self._by_number: dict[int, Entry] = {}
        self._by_own: dict[int, Entry] = {}
        self._works: bool | None = None
        self._fd = _open_ours(base)
        if self._fd >= 0:
            self._load()

    def close(self) -> None:
        """Release the directory."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def is_used(self) -> bool:
        """Whether there is any entry."""
        return bool(self._by_number)

    @property
    def works(self) -> bool:
        """Whether the upper's filesystem has hard links; without, each name of a lower file is a file of its own."""
        if self._works is None:
            self._works = _try_link(self._scratch)
        return self._works

    def copy_of(self, number: int, st: Attributes) -> Part | None:
        """Return where the copy of a lower file is; None if it was not copied up."""
        entry = self._by_number.get(number)
        if entry is None or not entry.own or not entry.is_of(st):
            return None
        return self._part(entry)

    def copy_by_number(self, number: int) -> Part | None:
        """Return where the copy of a lower file is, known by its number alone."""
        entry = self._by_number.get(number)
        return self._part(entry) if entry is not None and entry.own else None

    def number_of(self, own: int) -> int | None:
        """Return the number of the lower file that an inode of the upper is the copy of."""
        entry = self._by_own.get(own)
        return entry.number if entry is not None else None

    def add(self, name: bytes, number: int, st: Attributes) -> None:
        """Put a copy, complete at a name of the scratch directory, into the index. `st` is the lower file's."""
        self._make()
        own = os.lstat(name, dir_fd=self._scratch).st_ino
        before = self._by_number.get(number)
        left = before.left if before is not None and before.is_of(st) else st.st_nlink
        entry = Entry(number, st.st_mtime_ns, st.st_size, own, left)
        os.link(name, entry.name, src_dir_fd=self._scratch, dst_dir_fd=self._fd, follow_symlinks=False)
        self._by_own[own] = self._by_number[number] = entry
        if before is not None:
            dirs.remove(self._fd, before.name)

    def covered(self, number: int, st: Attributes) -> None:
        """Note that the upper covers one more name of a lower file: by the copy, by something else, or a whiteout."""
        entry = self._by_number.get(number)
        if entry is None or not entry.is_of(st):
            self._begin_to_count(number, st)
            return
        entry.left -= 1
        if entry.left < 1:
            self.withdraw(number)
            return
        with suppress(OSError):  # a count is not worth failing for: after the next mount there is one name too many
            now = entry.name_now()
            os.rename(entry.name, now, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            entry.name = now

    def withdraw(self, number: int) -> None:
        """Remove an entry that no name needs; one that stays on disk harms nobody."""
        entry = self._by_number.pop(number, None)
        if entry is not None:
            self._by_own.pop(entry.own, None)
            with suppress(OSError):
                dirs.remove(self._fd, entry.name)

    def left(self, number: int, st: Attributes) -> int:
        """Return how many names of a lower file are left; only of files that lost at least one."""
        entry = self._by_number.get(number)
        return entry.left if entry is not None and entry.is_of(st) else 0

    def counted(self, st: Attributes, number: int | None = None) -> Attributes:
        """Return the attributes with the link count of an upper object, or of the lower one of this number."""
        if number is not None:
            entry = self._by_number.get(number)
            return Shown(st, nlink=max(entry.left, 1)) if entry is not None and entry.is_of(st) else st
        entry = self._by_own.get(st.st_ino)
        return st if entry is None else Shown(st, nlink=st.st_nlink - 1 + entry.left)

    def _begin_to_count(self, number: int, st: Attributes) -> None:
        entry = Entry(number, st.st_mtime_ns, st.st_size, 0, st.st_nlink - 1)
        if entry.left < 1:
            return
        self._by_number[number] = entry
        with suppress(OSError):  # as above
            self._make()
            self._link_counted(entry)

    def _link_counted(self, entry: Entry) -> None:
        for _ in range(2):
            try:
                os.link(_COUNTED, entry.name, src_dir_fd=self._fd, dst_dir_fd=self._fd, follow_symlinks=False)
                return
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EMLINK):
                    raise
                dirs.remove(self._fd, _COUNTED)
                os.close(os.open(_COUNTED, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=self._fd))

    def _make(self) -> None:
        if self._fd < 0:
            with suppress(FileExistsError):
                os.mkdir(INDEX, 0o700, dir_fd=self._base)
            self._fd = _open_ours(self._base)
            if self._fd < 0:
                raise PermissionError(errno.EACCES, "the index of hard links is somebody else's", INDEX)

    def _part(self, entry: Entry) -> Part:
        if entry.part is None:
            entry.part = Part(IndexedCopy(self._upper, self._fd, entry), None, b"", self._fd)
        return entry.part

    def _load(self) -> None:
        """Read the entries; what is no entry, or not the file that it says, is removed."""
        worth: dict[int, int] = {}
        for name in dirs.names(self._fd):
            entry = _parse(name)
            st = os.lstat(name, dir_fd=self._fd)
            if entry is None or entry.left < 1 or (entry.own and not _is_copy(st, entry)):
                if name != _COUNTED:
                    dirs.remove(self._fd, name)
                continue
            # Of two, stopped before one was removed, that stays which the upper has names of.
            former = self._by_number.setdefault(entry.number, entry)
            links = st.st_nlink if entry.own else 0
            if former is not entry:
                stays, goes = (entry, former) if links > worth[entry.number] else (former, entry)
                self._by_number[entry.number] = stays
                dirs.remove(self._fd, goes.name)
            worth[entry.number] = max(links, worth.get(entry.number, 0))
        self._by_own = {entry.own: entry for entry in self._by_number.values() if entry.own}


def _is_copy(st: os.stat_result, entry: Entry) -> bool:
    return st.st_ino == entry.own and not stat.S_ISDIR(st.st_mode) and not is_whiteout(st)


def _parse(name: bytes) -> Entry | None:
    match = _ENTRY.fullmatch(name)
    entry = Entry(*(int(field, 16) for field in match.groups())) if match is not None else None
    return entry if entry is not None and entry.number <= KEPT_MAX else None


def _open_ours(base: int) -> int:
    """Open the index if it is there and ours alone; else return -1."""
    try:
        fd = os.open(INDEX, _OPEN, dir_fd=base)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return -1
    st = os.fstat(fd)
    if st.st_uid == os.geteuid() and not st.st_mode & 0o077:
        return fd
    os.close(fd)
    return -1


def _try_link(scratch: int) -> bool:
    """Try whether the filesystem links a file."""
    first, second = b"link-1", b"link-2"
    for name in (first, second):  # of a try that was stopped
        dirs.remove(scratch, name)
    os.close(os.open(first, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=scratch))
    try:
        os.link(first, second, src_dir_fd=scratch, dst_dir_fd=scratch, follow_symlinks=False)
    except OSError as error:
        return error.errno not in _NO_LINKS
    finally:
        for name in (first, second):
            dirs.remove(scratch, name)
    return True
