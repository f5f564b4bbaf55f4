"""The union as its front ends see it: inode numbers and names in, attributes out, OSError for every failure."""

import errno
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from layerfs.errors import InvalidArgument
from layerfs.model import Stack
from layerfs.sys import libc
from layerfs.sys.later import later
from layerfs.union.claim import renew
from layerfs.union.front import Front
from layerfs.union.front import adopt as adopt_known
from layerfs.union.handed import Handed, handed
from layerfs.union.inodes import Directory, File, Node
from layerfs.union.layers import DirTree, Part, Tree
from layerfs.union.listing import Listing
from layerfs.union.lookup import attributes, lookup
from layerfs.union.opened import Handle
from layerfs.union.opening import Opener, open_stack
from layerfs.union.options import UnionOptions
from layerfs.union.readdir import listing_of, load_stepwise, parts_of
from layerfs.union.room import with_room
from layerfs.union.setid import Who, drop_at_write
from layerfs.union.state import Attributes, Job, Overlay, Writable
from layerfs.union.validate import validate
from layerfs.union.work import end_use

if TYPE_CHECKING:
    from layerfs.union import attrs, copyup, data, flatten, metacopy, mutate, removal, rename
else:  # a mount is opened, and answers looks, without the 12 modules that read and change files
    attrs, copyup, data, metacopy, mutate, removal, rename = later(
        "layerfs.union", "attrs copyup data metacopy mutate removal rename"
    )


class Union:
    """One mounted stack. Not thread-safe: one caller at a time, threads for bytes only (ARCHITECTURE.md)."""

    def __init__(self, ov: Overlay) -> None:
        self._ov = ov

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
            libc.call("syncfs", ov.upper.tree.root())

    @property
    def options(self) -> UnionOptions:
        """How this union behaves."""
        return self._ov.options

    @property
    def read_only(self) -> bool:
        """Whether there is no upper."""
        return self._ov.upper is None

    @property
    def trees(self) -> tuple[Tree, ...]:
        """The trees that are stacked, top first."""
        return self._ov.trees

    def read_with(self, run_jobs: Callable[[Iterable[Job], Sequence[Part]], list[Any]]) -> None:
        """Let a front end run the jobs that read the shares of one directory; they come and return in one order."""
        self._ov.run_jobs = run_jobs

    def watch(self, changed: Callable[[int], None]) -> None:
        """Have a front end told each number whose attributes changed although nobody asked for that."""
        self._ov.changed = changed

    def close_by(self, close: Callable[[Handle], None]) -> None:
        """Have a front end close the last handle of a removed file: its filesystem frees the blocks then."""
        self._ov.table.close_last = close

    def answer_with(self, front: Front | None) -> None:
        """Let a front end answer for files by itself, from what it is handed; None ends that."""
        ov = self._ov
        ov.table.answer_with(front, None if front is None else functools.partial(adopt_known, ov))
        ov.handles.front = front

    def hand_over(self, node: Directory) -> "Handed | None":
        """Return what answers for the files of a directory that is loaded; None where more than a stat is needed."""
        return handed(self._ov, node)

    def _writable(self) -> Writable:
        """Return what changes need; EROFS where there is no upper."""
        if isinstance(self._ov, Writable):
            return self._ov
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    # Names

    def node(self, ino: int) -> Node:
        """Return a remembered node; ESTALE for a number that was never given or is forgotten."""
        return self._ov.node(ino)

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

    # Data

    def file(self, ino: int) -> File:
        """Return a remembered non-directory; EISDIR for a directory."""
        node = self._ov.node(ino)
        if isinstance(node, File):
            return node
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))

    @with_room
    def open_file(self, ino: int, flags: int) -> File:
        """Open a regular file's data; pair it with `release`."""
        node = self.file(ino)
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            data.open_for_writing(self._writable(), node, flags)
        else:
            data.open_file(self._ov, node)
        return node

    @with_room
    def data_handle(self, ino: int) -> Handle:
        """Return what an open file's data is read from."""
        return data.handle_of(self._ov, self.file(ino))

    @with_room
    def writable_fd(self, ino: int) -> int:
        """Return the descriptor that an open file's data is written to."""
        return data.writable_fd(self._writable(), self.file(ino))

    def release(self, ino: int) -> None:
        """Take back one open."""
        node = self._ov.table.nodes.get(ino)
        if isinstance(node, File):
            data.release(self._ov, node)

    def is_large_lower(self, node: File, size: int) -> bool:
        """Tell whether a file would be copied up at its next change, and has at least `size` bytes."""
        is_lower = not self.read_only and node.is_regular and copyup.needs_copy_up(node)
        return is_lower and attributes(self._ov, node).st_size >= size

    def stays_below(self, node: File) -> bool:
        """Tell whether a file keeps its data in a layer below when anything but them changes (`metacopy=on`)."""
        return metacopy.stays_below(self._writable(), node)

    @with_room
    def completion(self, node: File, size: int) -> "metacopy.Completion | None":
        """Begin to give an upper file that is only metadata, of at least `size` bytes, its data; None for any other."""
        return metacopy.completion(self._writable(), node, size)

    @with_room
    def stage(self, node: File, size: int | None = None) -> "copyup.Staged | None":
        """Begin a copy-up whose data, up to `size` [bytes], another thread may copy; None if there is nothing to do."""
        ov = self._writable()
        return copyup.Staged(ov, node, size) if copyup.needs_copy_up(node) else None

    def adopt(self, staged: "copyup.Staged") -> None:
        """Finish a copy-up: the upper has the file now."""
        copyup.adopt(staged)

    @with_room
    def drop_sxid(self, ino: int, who: Who) -> None:
        """Clear setuid and setgid of an open file that an unprivileged caller writes to."""
        ov, node = self._writable(), self.file(ino)
        drop_at_write(ov, node, data.writable_fd(ov, node), who)

    @contextmanager
    def writing(self, ino: int, fd: int) -> Iterator[None]:
        """Keep a file's descriptor open while it is written to, perhaps by a thread; `fd` is what `writable_fd` gave.

        With the writeback cache the kernel's own mtime counts (fs/fuse/inode.c, fuse_change_attributes_common). It
        sends that mtime when it differs from the one it was told last, but not after a write in the same tick. So what
        is written back later must not move the mtime on disk.
        """
        node = self.file(ino)
        with self.busy(node):
            if self.options.writeback:
                data.note_mtime(node, fd)
            yield
            if self.options.writeback:
                data.restore_mtime(node, fd)

    @contextmanager
    def busy(self, node: File) -> Iterator[None]:
        """Keep a file's descriptors open while a thread uses them."""
        (extra := node.opened()).busy += 1
        try:
            yield
        finally:
            extra.busy -= 1
            if extra.opens <= 0 and not extra.busy:
                extra.opens += 1
                data.release(self._ov, node)

    def open_to_sync(self, ino: int) -> int | None:
        """Open a regular file of the upper, for fsync(2) only; None for anything else, and for what we may not open."""
        return data.open_to_sync(self._ov, self.file(ino))

    def cutting(self, ino: int, size: int) -> AbstractContextManager[int | None]:
        """Yield a descriptor by which another thread may shorten a file of the upper; None if it is not worth that."""
        return data.cutting(self._writable(), self.file(ino), size)

    def upper_fd(self, ino: int) -> int | None:
        """Return the descriptor of a directory's share of the upper, for fsyncdir; None if it has none."""
        node = self._ov.directory(ino)
        part = None if node.dead else node.upper()
        return None if part is None else self._ov.fd(part)

    def root(self) -> Directory:
        """Return the root directory."""
        return self._ov.root
