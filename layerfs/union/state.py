"""The state of one union: its trees, nodes and scratch directory. The other modules of this room are operations on it.

A function that changes something takes a `Writable`, which has an upper; one that only reads takes an `Overlay`.
"""

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from layerfs.sys import dirs
from layerfs.sys.durable import keeps_order, make_durable
from layerfs.union import opened
from layerfs.union.digits import KEPT_MAX, kept
from layerfs.union.handles import Handles
from layerfs.union.hardlinks import HardLinks
from layerfs.union.inodes import ROOT, Directory, Node, Table
from layerfs.union.layers import DirTree, Part, Tree
from layerfs.union.mark_trust import MarkTrust
from layerfs.union.numbers import Numbers
from layerfs.union.opened import Handle
from layerfs.union.options import UnionOptions
from layerfs.union.owners import Owners
from layerfs.union.pool import Pool, Room
from layerfs.union.reading import Outcome, Reading
from layerfs.union.shown import Attributes as Attributes
from layerfs.union.whiteout import Marks

FEW = 256  # names whose removal is not worth a thread: a few ms
INO_XATTR = "layerfs.ino"  # below the marks' prefix: "OWN:NUMBER", OWN being the upper object's own inode number


class Work:
    """The scratch directory of a union: `work/` inside the work directory, as kernel overlayfs has it."""

    __slots__ = ("_aside", "_count", "_lock", "base", "fd")

    def __init__(self, base: int, fd: int, lock: int = -1) -> None:
        self.base = base  # the work directory itself; all are ours
        self.fd = fd
        self._lock = lock  # what says that the upper is in use, -1 without
        self._count = 0
        self._aside: list[bytes] = []

    def name(self) -> bytes:
        """Return a name that is free in the scratch directory."""
        self._count += 1
        return b"%d" % self._count

    def discard(self, name: bytes, size: int) -> None:
        """Remove a directory of about `size` names that was put here: at once, or when `clearing` is called."""
        if size > FEW:
            self._aside.append(name)
            return
        with suppress(OSError):  # the next mount empties the scratch directory
            dirs.remove(self.fd, name)

    def clearing(self) -> Callable[[], None] | None:
        """Return what removes all that was only put aside, for any thread to call; None if that is nothing."""
        if not self._aside:
            return None
        names, self._aside = self._aside, []
        return partial(_clear, os.dup(self.fd), names)

    def close(self) -> None:
        """Release both directories, and the upper."""
        os.close(self.fd)
        os.close(self.base)
        if self._lock >= 0:
            os.close(self._lock)


def _clear(fd: int, names: list[bytes]) -> None:
    """Remove names of the scratch directory and close `fd`, a descriptor of it."""
    try:
        for name in names:
            with suppress(OSError):
                dirs.remove(fd, name)
    finally:
        os.close(fd)


class Upper:
    """The one writable tree of a union, with its scratch directory and the marks that it can carry."""

    __slots__ = ("_ordered", "links", "marks", "tree", "work")

    def __init__(self, tree: DirTree, work: Work, marks: Marks) -> None:
        self.tree = tree
        self.work = work
        self.marks = marks
        self.links = HardLinks(work.base, work.fd, tree)
        self._ordered: bool | None = None

    @property
    def is_ordered(self) -> bool:
        """Whether a journal keeps the order. Asked once: the filesystem stays mounted, since it is held open here."""
        if self._ordered is None:
            self._ordered = keeps_order(self.work.fd)
        return self._ordered

    def make_durable(self, fd: int) -> None:
        """Bring a file of the scratch directory to disk before it gets its name. Raises OSError."""
        make_durable(fd, ordered=self.is_ordered)

    def close(self) -> None:
        """Release the work directory; the tree is closed with the others."""
        self.links.close()
        self.work.close()


def tell_nobody(_ino: int) -> None:
    """The default of `Overlay.changed`, until a front end sets its own."""


def in_order(jobs: Sequence[Reading], _parts: Sequence[Part]) -> list[Outcome]:
    """Run jobs one after the other: the default of `Overlay.run_jobs`, until a front end offers helpers."""
    return [job() for job in jobs]


class Overlay:
    """The state of one union; `lowers` are top first. A tree's index is 0 for the upper, from 1 on for the lowers."""

    __slots__ = (
        "changed",
        "files",
        "handles",
        "lent",
        "lowers",
        "mark_trust",
        "numbers",
        "options",
        "owners",
        "root",
        "run_jobs",
        "table",
        "upper",
    )

    def __init__(
        self, lowers: Sequence[Tree], upper: Upper | None, numbers: Numbers, options: UnionOptions, room: Room
    ) -> None:
        self.lowers = tuple(lowers)
        self.upper = upper
        self.options = options
        self.mark_trust = MarkTrust(())  # in redirects and metacopies
        self.numbers = numbers
        self.handles = Handles(room.directories)
        self.files = Pool(room.directories // 2, room.files)
        self.table = Table(self.handles, self.files)
        self.owners = Owners(options)
        self.run_jobs: Callable[[Sequence[Reading], Sequence[Part]], list[Outcome]] = in_order
        # Called with the number of a node whose attributes changed although nobody asked for that: by a copy-up in it,
        # or by a write that takes setuid.
        self.changed: Callable[[int], None] = tell_nobody
        self.lent: Handle | None = None
        self.root = Directory(ROOT, None, b"", ())
        self.root.lookups = 1
        self.table.add(self.root)

    @property
    def trees(self) -> tuple[Tree, ...]:
        """All trees, top first."""
        return self.lowers if self.upper is None else (self.upper.tree, *self.lowers)

    def node(self, ino: int) -> Node:
        """Return a remembered node; ESTALE for a number that was never given or is forgotten."""
        node = self.table.find(ino)
        if node is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return node

    def directory(self, ino: int) -> Directory:
        """Return a remembered directory; ENOTDIR for anything else."""
        node = self.table.nodes.get(ino)
        if type(node) is Directory:
            return node
        code = errno.ESTALE if node is None else errno.ENOTDIR
        raise OSError(code, os.strerror(code))

    def number_of(self, tree: Tree, at: int, name: bytes, st: Attributes) -> int:
        """Return a non-directory's number: in the upper, the one that it kept from the lower it came from."""
        number = self.numbers.of(st.st_dev, st.st_ino)
        if tree.index or self.upper is None or not self.upper.marks.xattrs:
            return number
        return self._kept(dirs.path_of(at, name), st.st_ino) or number

    def kept_number(self, fd: int, st: os.stat_result) -> int:
        """Return the number of a directory that lives in the upper alone."""
        return self._kept(fd, st.st_ino) or self.numbers.of(st.st_dev, st.st_ino)

    def _kept(self, path: dirs.Target, own: int) -> int | None:
        """Read a number that was kept; it counts only on the very inode it was written for, not on a copy."""
        if self.upper is None:
            return None
        value = dirs.getxattr_or_none(path, self.upper.marks.prefix + INO_XATTR)
        if value is None:
            return None
        inode, _, number = value.partition(b":")
        found = kept(number) if inode == b"%d" % own else None
        return found if found is not None and self.numbers.fits(found) else None

    def make_room(self) -> None:
        """Close what can be opened again: no descriptor is left."""
        self.files.shrink()
        self.handles.shrink(self.handles.limit // 8)

    def lend(self, handle: Handle) -> Handle:
        """Own a handle that is needed until the next one is."""
        self.end_loan()
        self.lent = handle
        return handle

    def end_loan(self) -> None:
        """Close the handle that was lent."""
        if self.lent is not None:
            opened.close(self.lent)
        self.lent = None

    def fd(self, part: Part) -> int:
        """Return an open handle of a part; good until the next call that opens another."""
        if part.fd >= 0:
            part.fresh = True
            return part.fd
        return self.handles.fd(part)


class Writable(Overlay):
    """The state of a union that has an upper."""

    __slots__ = ()
    upper: Upper

    def __init__(
        self, lowers: Sequence[Tree], upper: Upper, numbers: Numbers, options: UnionOptions, room: Room
    ) -> None:
        super().__init__(lowers, upper, numbers, options, room)

    def keep_number(self, path: dirs.Target, own: int, number: int) -> None:
        """Keep a number on an upper object, where its filesystem and type let it carry xattrs."""
        marks = self.upper.marks
        if not marks.xattrs or number > KEPT_MAX or self.numbers.of(self.upper.tree.device, own) == number:
            return
        try:
            dirs.set_own_xattr(path, marks.prefix + INO_XATTR, b"%d:%d" % (own, number))
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSPC, errno.EDQUOT):
                raise  # user.* is for files and directories only; a number is not worth failing a copy-up
