"""The union as its front ends see it: inode numbers and names in, attributes out, OSError for every failure."""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from layerfs.errors import InvalidArgument
from layerfs.model import Stack
from layerfs.sys.later import later
from layerfs.sys.sync import syncfs
from layerfs.union.claim import renew
from layerfs.union.inodes import Directory, File, Node
from layerfs.union.layers import DirTree, Part, Tree
from layerfs.union.listing import Edit, Listing
from layerfs.union.lookup import attributes, lookup
from layerfs.union.open_files import OpenFiles
from layerfs.union.opened import Handle
from layerfs.union.opening import Opener, open_stack
from layerfs.union.options import UnionOptions
from layerfs.union.readdir import listing_of, load_stepwise, parts_of
from layerfs.union.reading import Outcome, Reading
from layerfs.union.room import with_room
from layerfs.union.setid import Who
from layerfs.union.state import Attributes
from layerfs.union.validate import validate
from layerfs.union.work import end_use

if TYPE_CHECKING:
    from layerfs.union import attrs, data, flatten, front, handed, mutate, removal, rename
else:  # a mount is opened, and answers looks, without the 14 modules that read and change files, or serve a lane
    attrs, data, front, handed, mutate, removal, rename = later(
        "layerfs.union", "attrs data front handed mutate removal rename"
    )


class Union(OpenFiles):
    """One mounted stack. Not thread-safe: one caller at a time, threads for bytes only (ARCHITECTURE.md)."""

    @classmethod
    def open(
        cls, stack: Stack, options: UnionOptions, mountpoint: bytes | None = None, open_tree: Opener = DirTree
    ) -> "Union":
        """Open a stack's layers, having refused what cannot be mounted; the work directory is emptied.

        `open_tree` opens a lower, given its path and its place in the stack; the default knows directories only.
        Raises LayerfsError. Must be called before the mountpoint is covered.
        """
        validate(stack, mountpoint)
        with ExitStack() as closing:
            try:
                ov = open_stack(stack, options, mountpoint, open_tree, closing)
            except OSError as error:
                where = os.fsdecode(error.filename or b"")
                raise InvalidArgument(f"cannot open the layers: {error.strerror} ({where})") from None
            closing.pop_all()
        return cls(ov)

    def claim(self) -> None:
        """Note that this process has the upper: a server, once it is another process than the one that opened it."""
        if self._ov.upper is not None:
            renew(self._ov.upper.tree.root())

    def close(self, *, served_elsewhere: bool = False) -> None:
        """Release every descriptor: what a process forked since goes on with, or else the upper and any claim to it."""
        ov = self._ov
        ov.table.close()
        ov.handles.close()
        ov.end_loan()
        with ExitStack() as closing:
            for tree in ov.trees:
                closing.callback(tree.close)
            if ov.upper is not None:
                closing.callback(ov.upper.close)
                if not served_elsewhere:
                    end_use(ov.upper.work, ov.upper.tree.root(), volatile=ov.options.volatile)

    def sync(self) -> None:
        """Bring all of the upper to its disk, unless it is volatile; any thread may call it."""
        ov = self._ov
        if ov.upper is not None and not ov.options.volatile:
            syncfs(ov.upper.tree.root())

    @property
    def trees(self) -> tuple[Tree, ...]:
        """The trees that are stacked, top first."""
        return self._ov.trees

    def read_with(self, run_jobs: Callable[[Sequence[Reading], Sequence[Part]], list[Outcome]]) -> None:
        """Let a front end run the jobs that read the shares of one directory; they come and return in one order."""
        self._ov.run_jobs = run_jobs

    def watch(self, changed: Callable[[int], None]) -> None:
        """Have a front end told each number whose attributes changed although nobody asked for that."""
        self._ov.changed = changed

    def close_by(self, close: Callable[[Handle], None]) -> None:
        """Have a front end close the last handle of a removed file: its filesystem frees the blocks then."""
        self._ov.table.close_last = close

    def answer_with(self, who: "front.Front | None") -> Callable[[int], None]:
        """Let a front end answer for files by itself; None ends that. Returns what offers it a file that it gave up."""
        ov = self._ov
        ov.table.answer_with(who, None if who is None else functools.partial(front.adopt, ov))
        ov.handles.front = who
        return functools.partial(front.surrender, ov)

    def take_in(self, directory: int, name: bytes, edit: Edit, number: int, *, hidden: bool) -> None:
        """Note what a front end has done at a name, where that was offered (`handed.Handed.makes`); see front.py."""
        front.take_in(self._ov, directory, name, edit, number, hidden=hidden)

    def take_in_directory(
        self, directory: int, name: bytes, number: int, fd: int, seen: int
    ) -> tuple[Listing, Part] | None:
        """Note a directory that a front end has made; see front.py."""
        return front.take_in_directory(self._ov, directory, name, number, fd, seen)

    def take_in_owner(self, directory: int, seen: int) -> None:
        """Note that a front end has set the owner or mode of a directory's share of the upper; see front.py."""
        front.take_in_owner(self._ov, directory, seen)

    def changing(self) -> "handed.Changing":
        """Return what a front end needs to change files."""
        return handed.changing(self._writable())

    def recall(self, number: int) -> None:
        """Answer again for what a front end answers for."""
        self._ov.table.find(number)

    def hand_over(self, node: Directory) -> "handed.Handed | None":
        """Return what answers for the files of a directory that is loaded; None where more than a stat is needed."""
        return handed.handed(self._ov, node)

    # Names

    def directory(self, ino: int) -> Directory:
        """Return a remembered directory; ENOTDIR for anything else."""
        return self._ov.directory(ino)

    def loading(self, directory: Directory) -> Iterator[None]:
        """Load a directory's listing in steps of a few milliseconds, between which others may be served."""
        return load_stepwise(self._ov, directory)

    def lookup(self, parent: int, name: bytes) -> tuple[Node, Attributes]:
        """Find a name in a directory; count it with `remember` if the answer is passed on, else `drop` it."""
        return lookup(self._ov, self._ov.directory(parent), name)

    def lookup_in(self, parent: Directory, name: bytes) -> tuple[Node, Attributes]:
        """Find a name as `lookup` does, in a directory that is at hand."""
        return lookup(self._ov, parent, name)

    def drop(self, node: Node) -> None:
        """Forget a node that was looked up, if nothing needs it."""
        self._ov.table.reap(node)

    def reap(self, ino: int) -> None:
        """Forget a node by its number, if nothing needs it."""
        self._ov.table.reap(self._ov.table.nodes.get(ino))

    def origins(self, ino: int) -> list[tuple[bytes, bytes]]:
        """Return the directories that a merged directory is made of, top first: a layer's path, and the path in it."""
        return [(part.tree.path, part.path()) for part in parts_of(self._ov, self._ov.directory(ino)).all()]

    def enter(self, ino: int) -> None:
        """Open a directory as opendir(3) does. ESTALE if its name was given to another one in its layer."""
        parts_of(self._ov, self._ov.directory(ino))

    def parent_of(self, ino: int) -> int:
        """Return the number of the directory above; the root's is its own."""
        node = self._ov.node(ino)
        return node.parent.ino if node.parent is not None else node.ino

    def remember(self, node: Node) -> None:
        """Count one lookup that the kernel was told of."""
        node.lookups += 1

    def forget(self, ino: int, count: int) -> None:
        """Take back lookups (FORGET)."""
        self._ov.table.forget(ino, count)

    def names(self, ino: int) -> list[bytes]:
        """Return the names in a directory, in an order that stays; `.` and `..` are not among them."""
        return list(listing_of(self._ov, self._ov.directory(ino)).names)

    def listing(self, ino: int) -> Listing:
        """Return the merged listing of a directory."""
        return listing_of(self._ov, self._ov.directory(ino))

    # Attributes

    def attributes(self, ino: int) -> Attributes:
        """Stat by number; st_ino and st_dev in it are the layer's own."""
        return attributes(self._ov, self._ov.node(ino))

    @with_room
    def set_attributes(self, ino: int, change: "attrs.Change") -> Attributes:
        """Change attributes; the file is copied up first."""
        return attrs.set_attributes(self._writable(), self._ov.node(ino), change)

    def is_idle(self, ino: int, change: "attrs.Change") -> bool:
        """Tell whether a change says nothing new."""
        return attrs.is_idle(self._ov, self._ov.node(ino), change)

    @with_room
    def readlink(self, ino: int) -> bytes:
        """Return a symlink's target. ESTALE if its name was given to another one in its layer."""
        return attrs.read_link(self._ov, self.file(ino))

    @with_room
    def get_xattr(self, ino: int, name: bytes) -> bytes:
        """Read an extended attribute; ENODATA if absent."""
        return attrs.get_xattr(self._ov, self._ov.node(ino), name)

    @with_room
    def list_xattrs(self, ino: int) -> list[bytes]:
        """List extended attributes, the overlay's own marks left out."""
        return attrs.list_xattrs(self._ov, self._ov.node(ino))

    @with_room
    def set_xattr(self, ino: int, name: bytes, value: bytes, who: Who = Who.PRIVILEGED) -> None:
        """Set an extended attribute; an ACL of an outsider takes setgid."""
        attrs.set_xattr(self._writable(), self._ov.node(ino), name, value, who)

    def remove_xattr(self, ino: int, name: bytes, who: Who = Who.PRIVILEGED) -> None:
        """Remove an extended attribute; ENODATA if absent."""
        attrs.remove_xattr(self._writable(), self._ov.node(ino), name, who)

    def statvfs(self) -> os.statvfs_result:
        """Return the free space of the upper, or of the top layer when there is none."""
        return self._ov.trees[0].statvfs()

    # Changes

    @with_room
    def create(self, parent: int, name: bytes, mode: int, caller: "mutate.Caller") -> File:
        """Make an empty regular file, opened for reading and writing; pair it with `release`."""
        ov = self._writable()
        ov.files.admit()
        node, fd = mutate.create(ov, ov.directory(parent), name, mode, caller)
        data.adopt_fd(ov, node, fd)
        return node

    @with_room
    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: "mutate.Caller") -> Node:
        """Make a device, FIFO, socket or regular file."""
        return mutate.mknod(self._writable(), self._ov.directory(parent), name, mode, rdev, caller)

    @with_room
    def mkdir(self, parent: int, name: bytes, mode: int, caller: "mutate.Caller") -> Node:
        """Make a directory."""
        return mutate.mkdir(self._writable(), self._ov.directory(parent), name, mode, caller)

    @with_room
    def symlink(self, parent: int, name: bytes, target: bytes, caller: "mutate.Caller") -> Node:
        """Make a symlink."""
        return mutate.symlink(self._writable(), self._ov.directory(parent), name, target, caller)

    @with_room
    def link(self, ino: int, parent: int, name: bytes) -> Node:
        """Give a file one more name and return it."""
        node = self.file(ino)
        mutate.link(self._writable(), node, self._ov.directory(parent), name)
        return node

    @with_room
    def unlink(self, parent: int, name: bytes) -> None:
        """Remove a file's name."""
        removal.unlink(self._writable(), self._ov.directory(parent), name)

    @with_room
    def rmdir(self, parent: int, name: bytes) -> None:
        """Remove an empty directory."""
        removal.rmdir(self._writable(), self._ov.directory(parent), name)

    def clearing(self) -> Callable[[], None] | None:
        """Return what clears away large directories that were removed, for any thread to call; None for nothing."""
        return self._ov.upper.work.clearing() if self._ov.upper is not None else None

    def rename(self, parent: int, name: bytes, to: int, new: bytes, flags: int = 0) -> None:
        """Rename anything, with the flags of renameat2(2)."""
        for _file in self.renaming(parent, name, to, new, flags):
            pass

    def renaming(self, parent: int, name: bytes, to: int, new: bytes, flags: int = 0) -> "Iterator[flatten.Step]":
        """Rename stepwise; see `flatten.Step` for what the caller may do before each step."""
        return rename.renaming(self._writable(), self._ov.directory(parent), name, self._ov.directory(to), new, flags)

    def upper_fd(self, ino: int) -> int | None:
        """Return the descriptor of a directory's share of the upper, for fsyncdir; None if it has none."""
        node = self._ov.directory(ino)
        part = None if node.dead else node.upper()
        return None if part is None else self._ov.fd(part)

    def root(self) -> Directory:
        """Return the root directory."""
        return self._ov.root
