"""The union as its front ends see it: inode numbers and names in, attributes out, OSError for every failure."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from layerfs.errors import InvalidArgument, Unsupported
from layerfs.model import Stack
from layerfs.sys import dirs
from layerfs.sys.limits import raise_open_files
from layerfs.union import attrs, data, mutate, opened, removal
from layerfs.union.attrs import Change
from layerfs.union.copyup import Staged, adopt, needs_copy_up
from layerfs.union.inodes import Directory, File, Node, Numbers
from layerfs.union.layers import DirTree, Tree
from layerfs.union.lookup import attributes, lookup
from layerfs.union.mutate import Caller
from layerfs.union.options import OverrideStat, UnionOptions
from layerfs.union.owners import OVERRIDES, override_value
from layerfs.union.readdir import listing_of
from layerfs.union.rename import renaming
from layerfs.union.state import Attributes, Overlay
from layerfs.union.validate import validate
from layerfs.union.whiteout import Marks
from layerfs.union.work import end_volatile, open_work

Opener = Callable[[bytes, int], Tree]
MAX_HANDLES = 8192  # directories of the layers held open at once; guessed, not yet measured


class Union:
    """One mounted stack. Not thread-safe: one caller at a time, threads for bytes only (ARCHITECTURE.md)."""

    def __init__(self, ov: Overlay) -> None:
        self.ov = ov

    @classmethod
    def open(
        cls, stack: Stack, options: UnionOptions, mountpoint: bytes | None = None, open_tree: Opener = DirTree
    ) -> "Union":
        """Open a stack's layers, having refused what cannot be mounted; the work directory is emptied.

        `open_tree` opens a lower, given its path and its place in the stack; the default knows directories only.
        Raises LayerfsError. Must be called before the mountpoint is covered.
        """
        validate(stack, mountpoint)
        trees: list[Tree | None] = [None]
        ov: Overlay | None = None
        try:
            if stack.upper is not None:
                trees[0] = DirTree(stack.upper, 0)
            for index, path in enumerate(stack.lowers, 1):
                trees.append(open_tree(path, index))
            ov = Overlay(trees, _numbers(trees), options, _handle_limit(len(trees)))
            if stack.work is not None:
                _open_upper(ov, stack.work)
            for tree in trees:
                if tree is not None:
                    ov.owners.adopt(tree)
        except BaseException as error:
            if ov is not None and ov.work is not None:
                ov.work.close()
            _close_all(trees)
            if not isinstance(error, OSError):
                raise
            where = os.fsdecode(error.filename or b"")
            raise InvalidArgument(f"cannot open the layers: {error.strerror} ({where})") from None
        return cls(ov)

    def close(self) -> None:
        """Release every descriptor; a volatile mount that ends here has not crashed."""
        ov = self.ov
        ov.table.close()
        ov.handles.close()
        upper = ov.trees[0]
        try:
            if ov.work is not None and ov.options.volatile and upper is not None:
                end_volatile(ov.work, upper.root())
        finally:
            if ov.work is not None:
                ov.work.close()
            _close_all(ov.trees)

    @property
    def options(self) -> UnionOptions:
        """How this union behaves."""
        return self.ov.options

    @property
    def read_only(self) -> bool:
        """Whether there is no upper."""
        return self.ov.work is None

    # Names

    def lookup(self, parent: int, name: bytes) -> tuple[Node, Attributes]:
        """Find a name in a directory; count it with `remember` if the answer is passed on."""
        return lookup(self.ov, self.ov.directory(parent), name)

    def parent_of(self, ino: int) -> int:
        """Return the number of the directory above; the root's is its own."""
        node = self.ov.node(ino)
        return node.parent.ino if node.parent is not None else node.ino

    def remember(self, node: Node) -> None:
        """Count one lookup that the kernel was told of."""
        node.lookups += 1

    def forget(self, ino: int, count: int) -> None:
        """Take back lookups (FORGET)."""
        self.ov.table.forget(ino, count)

    def names(self, ino: int) -> list[bytes]:
        """Return the names in a directory, in an order that stays; `.` and `..` are not among them."""
        return list(listing_of(self.ov, self.ov.directory(ino)))

    def has(self, ino: int, name: bytes) -> bool:
        """Tell whether a name is still there."""
        return name in listing_of(self.ov, self.ov.directory(ino))

    # Attributes

    def attributes(self, ino: int) -> Attributes:
        """Stat by number; st_ino and st_dev in it are the layer's own."""
        return attributes(self.ov, self.ov.node(ino))

    def set_attributes(self, ino: int, change: Change) -> Attributes:
        """Change attributes; the file is copied up first."""
        return attrs.set_attributes(self.ov, self.ov.node(ino), change)

    def is_idle(self, ino: int, change: Change) -> bool:
        """Tell whether a change says nothing new: the kernel flushes the times it keeps after each unlink and rename.

        Of a lower file without a name only the kernel shows times; they are not worth copying it up.
        """
        if change != Change(mtime_ns=change.mtime_ns, drop_sxid=change.drop_sxid):
            return False
        node = self.ov.node(ino)
        if isinstance(node, File) and node.place is None and node.extra is not None and node.extra.orphan_of:
            return True
        return change.mtime_ns is None or change.mtime_ns == attributes(self.ov, node).st_mtime_ns

    def readlink(self, ino: int) -> bytes:
        """Return a symlink's target."""
        node = self.file(ino)
        if not node.is_symlink:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if node.place is None:
            return opened.readlink(node.opened().anchor())
        return node.place.tree.readlink(self.ov.fd(node.place), node.name)

    def get_xattr(self, ino: int, name: bytes) -> bytes:
        """Read an extended attribute; ENODATA if absent."""
        return attrs.get_xattr(self.ov, self.ov.node(ino), name)

    def list_xattrs(self, ino: int) -> list[bytes]:
        """List extended attributes, the overlay's own marks left out."""
        return attrs.list_xattrs(self.ov, self.ov.node(ino))

    def set_xattr(self, ino: int, name: bytes, value: bytes) -> None:
        """Set an extended attribute."""
        attrs.set_xattr(self.ov, self.ov.node(ino), name, value)

    def remove_xattr(self, ino: int, name: bytes) -> None:
        """Remove an extended attribute; ENODATA if absent."""
        attrs.remove_xattr(self.ov, self.ov.node(ino), name)

    def statvfs(self) -> os.statvfs_result:
        """Return the free space of the upper, or of the top layer when there is none."""
        tree = next(tree for tree in self.ov.trees if tree is not None)
        return tree.statvfs()

    # Changes

    def create(self, parent: int, name: bytes, mode: int, caller: Caller) -> File:
        """Make an empty regular file, opened for reading and writing; pair it with `release`."""
        node, fd = mutate.create(self.ov, self.ov.directory(parent), name, mode, caller)
        data.adopt_fd(self.ov, node, fd)
        return node

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> Node:
        """Make a device, FIFO, socket or regular file."""
        return mutate.mknod(self.ov, self.ov.directory(parent), name, mode, rdev, caller)

    def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Node:
        """Make a directory."""
        return mutate.mkdir(self.ov, self.ov.directory(parent), name, mode, caller)

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Node:
        """Make a symlink."""
        return mutate.symlink(self.ov, self.ov.directory(parent), name, target, caller)

    def link(self, ino: int, parent: int, name: bytes) -> Node:
        """Give a file one more name and return it."""
        node = self.file(ino)
        mutate.link(self.ov, node, self.ov.directory(parent), name)
        return node

    def unlink(self, parent: int, name: bytes) -> None:
        """Remove a file's name."""
        removal.unlink(self.ov, self.ov.directory(parent), name)

    def rmdir(self, parent: int, name: bytes) -> None:
        """Remove an empty directory."""
        removal.rmdir(self.ov, self.ov.directory(parent), name)

    def rename(self, parent: int, name: bytes, to: int, new: bytes, flags: int = 0) -> None:
        """Rename anything, with the flags of renameat2(2)."""
        for _file in self.renaming(parent, name, to, new, flags):
            pass

    def renaming(self, parent: int, name: bytes, to: int, new: bytes, flags: int = 0) -> Iterator[File]:
        """Rename stepwise: yields each file that is to be copied up first; who copies it meanwhile, spares us that."""
        return renaming(self.ov, self.ov.directory(parent), name, self.ov.directory(to), new, flags)

    # Data

    def file(self, ino: int) -> File:
        """Return a remembered non-directory; EISDIR for a directory."""
        node = self.ov.node(ino)
        if isinstance(node, File):
            return node
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))

    def open_file(self, ino: int, flags: int) -> File:
        """Open a regular file's data; pair it with `release`."""
        node = self.file(ino)
        data.open_file(self.ov, node, flags)
        return node

    def data_fd(self, ino: int, *, write: bool = False) -> int:
        """Return the descriptor that an open file's data is read from, or written to."""
        return data.fd_of(self.ov, self.file(ino), write=write)

    def release(self, ino: int) -> None:
        """Take back one open."""
        node = self.ov.table.nodes.get(ino)
        if isinstance(node, File):
            data.release(self.ov, node)

    def is_large_lower(self, node: File, size: int) -> bool:
        """Tell whether a file would be copied up at its next change, and has at least `size` bytes."""
        if not node.is_regular or not needs_copy_up(node):
            return False
        return not self.read_only and attributes(self.ov, node).st_size >= size

    def stage(self, node: File) -> Staged | None:
        """Begin a copy-up whose data another thread may copy (`Staged.copy`); None if there is nothing to do."""
        self.ov.writable()
        return Staged(self.ov, node, None) if needs_copy_up(node) else None

    def adopt(self, staged: Staged) -> None:
        """Finish a copy-up: the upper has the file now."""
        adopt(staged)

    def drop_sxid(self, ino: int) -> None:
        """Clear setuid and setgid of an open file that an unprivileged caller writes to."""
        node = self.file(ino)
        data.drop_sxid(self.ov, node, data.fd_of(self.ov, node, write=True))

    @contextmanager
    def busy(self, node: File) -> Iterator[None]:
        """Keep a file's descriptors open while a thread uses them."""
        extra = node.opened()
        extra.busy += 1
        try:
            yield
        finally:
            extra.busy -= 1
            if extra.opens <= 0 and not extra.busy:
                extra.opens += 1
                data.release(self.ov, node)

    def upper_fd(self, ino: int) -> int | None:
        """Return the descriptor of a directory's share of the upper, for fsyncdir; None if it has none."""
        node = self.ov.directory(ino)
        part = None if node.dead else node.upper()
        return None if part is None else self.ov.fd(part)

    def root(self) -> Directory:
        """Return the root directory."""
        return self.ov.root


def _numbers(trees: list[Tree | None]) -> Numbers:
    """Rank the filesystems from the bottom up, so that a new layer on top changes no number."""
    return Numbers([tree.device for tree in (*reversed(trees[1:]), trees[0]) if tree is not None])


def _handle_limit(layers: int) -> int:
    """Leave half of the descriptors to open files, threads and the roots of the layers."""
    return max(min((raise_open_files() - layers) // 2, MAX_HANDLES), 16)


def _open_upper(ov: Overlay, work: bytes) -> None:
    upper = ov.trees[0]
    assert upper is not None
    ov.work = open_work(work, upper.root(), volatile=ov.options.volatile)
    ov.marks = Marks(ov.work.fd)
    if ov.owners.override is not None:
        _mark_override(ov, upper.root())


def _mark_override(ov: Overlay, root: int) -> None:
    """Note on the upper's root that ownership is kept in xattrs: readers look there (fuse-overlayfs)."""
    if ov.options.override_stat is OverrideStat.OFF or ov.owners.override is None:
        return
    if any(name in OVERRIDES for name in dirs.xattrs(root)):
        return  # begun before, perhaps by fuse-overlayfs 1.10, whose name differs
    st = os.fstat(root)
    try:
        os.setxattr(root, ov.owners.override, override_value(st.st_uid, st.st_gid, st.st_mode))
    except OSError:
        raise _no_override(ov.options.override_stat) from None


def _no_override(mode: OverrideStat) -> Unsupported:
    return Unsupported(
        f"the upper directory cannot carry {OVERRIDES[mode - 1]}",
        f"xattr_permissions={int(mode)} needs {'root' if mode is OverrideStat.PRIVILEGED else 'user xattrs'} there",
    )


def _close_all(trees: list[Tree | None]) -> None:
    for tree in trees:
        if tree is not None:
            tree.close()
