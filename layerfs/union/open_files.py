"""The union's files that are open, and their bytes, as its front ends see them: one half of `Union`."""

import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from layerfs.sys.later import later
from layerfs.union.inodes import File, Node
from layerfs.union.lookup import attributes
from layerfs.union.opened import Handle
from layerfs.union.options import UnionOptions
from layerfs.union.room import with_room
from layerfs.union.setid import Who, drop_at_write
from layerfs.union.state import Overlay, Writable

if TYPE_CHECKING:
    from layerfs.union import copyup, data, file_attr, metacopy, mutate, tmpfile
else:  # as in union.py
    copyup, data, file_attr, metacopy, mutate, tmpfile = later(
        "layerfs.union", "copyup data file_attr metacopy mutate tmpfile"
    )


class OpenFiles:
    """What is done to files, by their numbers."""

    def __init__(self, ov: Overlay) -> None:
        self._ov = ov

    @property
    def options(self) -> UnionOptions:
        """How this union behaves."""
        return self._ov.options

    @property
    def read_only(self) -> bool:
        """Whether there is no upper."""
        return self._ov.upper is None

    def has_room(self) -> bool:
        """Close directories that leave no room for files; tell whether a front end may open files by itself.

        To be called between requests.
        """
        self._ov.handles.make_way(self._ov.files.left)
        return not self._ov.files.is_crowded

    def leave_to_front(self, count: int) -> None:
        """Leave so many descriptors to a front end."""
        self._ov.files.leave(count)

    def _writable(self) -> Writable:
        """Return what changes need; EROFS where there is no upper."""
        if isinstance(self._ov, Writable):
            return self._ov
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def node(self, ino: int) -> Node:
        """Return a remembered node; ESTALE for a number that was never given or is forgotten."""
        return self._ov.node(ino)

    @with_room
    def make_unnamed(self, parent: int, mode: int, caller: "mutate.Caller") -> File:
        """Make an empty regular file without a name, opened as `create` does."""
        ov = self._writable()
        ov.files.admit()
        node, fd = tmpfile.make(ov, ov.directory(parent), mode, caller)
        data.adopt_fd(ov, node, fd)
        return node

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
        """Begin a copy-up whose data another thread may copy (`Staged.copy`); None if there is nothing to do.

        `size` [bytes] cuts the data short: a truncate is to follow.
        """
        ov = self._writable()
        return copyup.Staged(ov, node, size) if copyup.needs_copy_up(node) else None

    def adopt(self, staged: "copyup.Staged") -> None:
        """Finish a copy-up: the upper has the file now."""
        copyup.adopt(staged)

    @with_room
    def birth_time(self, ino: int) -> int | None:
        """Return when an object was made [ns since 1970]; None where nobody knows."""
        return file_attr.birth_time(self._ov, self.node(ino))

    @with_room
    def flags(self, ino: int, command: int) -> bytes:
        """Return what an ioctl (sys/file_attr.py) gives of an open object; ENOTTY for one in an image."""
        return file_attr.read(self._ov, self.node(ino), command)

    @with_room
    def set_flags(self, ino: int, command: int, value: bytes) -> None:
        """Change the inode flags of an open object, which is copied up first."""
        file_attr.write(self._writable(), self.node(ino), command, value)

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
        extra = node.opened()
        extra.busy += 1
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
