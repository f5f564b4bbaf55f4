"""Handles of open files: descriptors of the host, and numbers above them for files in images, which have none.

Whoever holds a handle asks and closes it here, and so need not know which it is. Only the bytes of a file in an image
are read elsewhere (`foreign`), since that may take a thread.
"""

import os
from itertools import count
from typing import TYPE_CHECKING, Final, Protocol

from layerfs.sys import dirs
from layerfs.sys.copy import copy_data

if TYPE_CHECKING:
    from layerfs.union.layers import Ref, Tree
    from layerfs.union.shown import Attributes

FOREIGN: Final = 1 << 40  # above every descriptor; the first handle of a file in an image


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

    def copy(self, target: int, size: int) -> None:
        """Copy the first `size` bytes into an empty file of the host, holes as holes; any thread may call it."""


_files: dict[int, Foreign] = {}
_numbers = count(FOREIGN)


def admit(file: Foreign) -> int:
    """Return a handle of a file that is not the host's."""
    handle = next(_numbers)
    _files[handle] = file
    return handle


def foreign(handle: int) -> Foreign | None:
    """Return the file in an image that a handle stands for; None if it is a descriptor."""
    return _files[handle] if handle >= FOREIGN else None


def close(handle: int) -> None:
    """Close a handle."""
    if handle >= FOREIGN:
        del _files[handle]
    else:
        os.close(handle)


def reopen(handle: int, flags: int) -> int:
    """Return a second handle of the same file, also of one without a name; O_RDONLY for a file in an image."""
    if handle >= FOREIGN:
        return admit(_files[handle])
    return os.open(dirs.held(handle), flags | os.O_CLOEXEC)


def stat(handle: int) -> "Attributes":
    """Stat an open file."""
    return _files[handle].stat() if handle >= FOREIGN else os.fstat(handle)


def readlink(handle: int) -> bytes:
    """Return the target of a symlink that is held on to."""
    return _files[handle].readlink() if handle >= FOREIGN else os.readlink(b"", dir_fd=handle)


def ref(handle: int) -> "Ref":
    """Return what an open file's xattrs are read by."""
    return _files[handle].ref if handle >= FOREIGN else dirs.held(handle)


def copy(handle: int, target: int, size: int) -> None:
    """Copy the first `size` bytes of an open file into an empty file of the host; any thread may call it."""
    if handle >= FOREIGN:
        _files[handle].copy(target, size)
    else:
        copy_data(handle, target, size)


def xattrs(handle: int) -> list[str]:
    """List the extended attributes of an open file; none where unsupported."""
    if handle < FOREIGN:
        return dirs.xattrs(handle)
    file = _files[handle]
    return file.tree.listxattr(file.ref)


def getxattr_or_none(handle: int, name: str) -> bytes | None:
    """Read an extended attribute of an open file; None when it is absent."""
    if handle < FOREIGN:
        return dirs.getxattr_or_none(handle, name)
    file = _files[handle]
    return file.tree.getxattr(file.ref, name) if name in file.tree.listxattr(file.ref) else None
