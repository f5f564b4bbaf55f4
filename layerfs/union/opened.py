"""Handles of open files: descriptors of the host, and objects for files in images, which have none.

Whoever holds a handle asks and closes it here, and so need not know which it is. Only the bytes of a file in an image
are read elsewhere, since that may take a thread.
"""

import errno
import os
from stat import S_ISREG
from typing import TYPE_CHECKING, Protocol

from layerfs.sys import dirs
from layerfs.sys import target as object_at
from layerfs.sys.copy import Progress, copy_data, nothing

if TYPE_CHECKING:
    from layerfs.union.layers import Ref, Tree
    from layerfs.union.shown import Attributes


class Foreign(Protocol):
    """An open object of a tree that is no directory of the host: a regular file, or one that is only held on to."""

    @property
    def tree(self) -> "Tree":
        """The tree that has it."""

    @property
    def ref(self) -> "Ref":
        """What its xattrs are read by, in that tree."""

    def stat(self) -> "Attributes":
        """Return its attributes."""

    def readlink(self) -> bytes:
        """Return a symlink's target."""

    def ready(self, offset: int, size: int) -> bytes | memoryview | None:
        """Return the bytes of a range if they take no time worth a thread; else None."""

    def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return the bytes of a range, fewer at the end of the file; any thread may call it."""

    def seek(self, offset: int, whence: int) -> int:
        """Return where data begin (SEEK_DATA), or a hole does; ENXIO at the end of the file. Any thread may call it."""

    def copy(self, target: int, size: int, progress: Progress = nothing) -> None:
        """Copy the first `size` bytes into an empty file of the host, holes as holes; any thread may call it.

        `progress` is called with each offset that is reached; an exception of it ends the copy.
        """


Handle = int | Foreign  # an int is a descriptor


def close(handle: Handle) -> None:
    """Close a handle; a file in an image needs no closing."""
    if isinstance(handle, int):
        os.close(handle)


def reopen(handle: Handle, flags: int) -> Handle:
    """Return a second handle of the same file, also of one without a name; O_RDONLY for a file in an image."""
    if not isinstance(handle, int):
        return handle
    if not S_ISREG(os.fstat(handle).st_mode):  # only held on to: opening a FIFO or a device does something
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    return object_at.reopen(handle, flags)


def stat(handle: Handle) -> "Attributes":
    """Stat an open file."""
    return os.fstat(handle) if isinstance(handle, int) else handle.stat()


def readlink(handle: Handle) -> bytes:
    """Return the target of a symlink that is held on to."""
    return os.readlink(b"", dir_fd=handle) if isinstance(handle, int) else handle.readlink()


def ref(handle: Handle) -> "Ref":
    """Return what an open file's xattrs are read by."""
    return dirs.held(handle) if isinstance(handle, int) else handle.ref


def copy(handle: Handle, target: int, size: int, progress: Progress = nothing) -> None:
    """Copy the first `size` bytes of an open file into an empty file of the host; any thread may call it.

    `progress` is called with each offset that is reached; an exception of it ends the copy.
    """
    if isinstance(handle, int):
        copy_data(handle, target, size, progress)
    else:
        handle.copy(target, size, progress)


def seek(handle: Handle, offset: int, whence: int) -> int:
    """Return where data begin in an open file (SEEK_DATA), or a hole does (SEEK_HOLE); any thread may call it."""
    return os.lseek(handle, offset, whence) if isinstance(handle, int) else handle.seek(offset, whence)


def xattrs(handle: Handle) -> list[str]:
    """List the extended attributes of an open file; none where unsupported."""
    return dirs.xattrs(handle) if isinstance(handle, int) else handle.tree.listxattr(handle.ref)


def getxattr_or_none(handle: Handle, name: str) -> bytes | None:
    """Read an extended attribute of an open file; None when it is absent."""
    if isinstance(handle, int):
        return dirs.getxattr_or_none(handle, name)
    return handle.tree.getxattr(handle.ref, name) if name in handle.tree.listxattr(handle.ref) else None


def target(handle: Handle) -> dirs.Held:
    """Return a path to change what a handle has open; EROFS for a file in an image."""
    if isinstance(handle, int):
        return dirs.held(handle)
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))
