"""When an object was made, and its inode flags, as kernel overlayfs shows them: those of the topmost share.

Immutable and append-only are not set through a mount (EOPNOTSUPP): the kernel's FUSE client would not enforce them.
Those that are noted on an upper (protattr.py) are shown.
"""

import errno
import os
import struct
from typing import Final

from layerfs.sys import file_attr
from layerfs.sys.file_attr import APPEND, FSSETXATTR, GETFLAGS, IMMUTABLE, SETFLAGS
from layerfs.union import opened
from layerfs.union.copyup import copy_up, copy_up_directory
from layerfs.union.data import handle_of
from layerfs.union.inodes import Directory, File, Node
from layerfs.union.layers import DirTree
from layerfs.union.orphans import anchor
from layerfs.union.protattr import noted_flags
from layerfs.union.readdir import parts_of
from layerfs.union.state import Overlay, Writable

_XFLAGS: Final = 0x8 | 0x10  # FS_XFLAG_IMMUTABLE, FS_XFLAG_APPEND
_WORD: Final = struct.Struct("=I")


def birth_time(ov: Overlay, node: Node) -> int | None:
    """Return when an object was made [ns since 1970]; None where nobody knows, as in an image."""
    if isinstance(node, Directory):
        if node.remains is not None:
            return None
        top = parts_of(ov, node).top
        return file_attr.birth_time(ov.fd(top)) if isinstance(top.tree, DirTree) else None
    assert isinstance(node, File)
    if node.part is None:
        handle = anchor(ov, node)
        return file_attr.birth_time(handle) if isinstance(handle, int) else None
    handle = node.part.tree.pin(ov.fd(node.part), node.name, node.is_seen)
    try:
        return file_attr.birth_time(handle) if isinstance(handle, int) else None
    finally:
        opened.close(handle)


def read(ov: Overlay, node: Node, command: int) -> bytes:
    """Return what an ioctl of sys/file_attr.py gives of an object; ENOTTY for one in an image."""
    fd = _open(ov, node)
    try:
        found = file_attr.read(fd, command)
        if command == GETFLAGS:
            return _WORD.pack(_WORD.unpack(found)[0] | noted_flags(ov, fd))
        return found
    finally:
        os.close(fd)


def write(ov: Writable, node: Node, command: int, value: bytes) -> None:
    """Change flags, of the upper's copy."""
    (wanted,) = _WORD.unpack_from(value)
    if wanted & {SETFLAGS: APPEND | IMMUTABLE, FSSETXATTR: _XFLAGS}[command]:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    if isinstance(node, Directory):
        copy_up_directory(ov, node)
    elif isinstance(node, File):
        copy_up(ov, node)
    fd = _open(ov, node)
    try:
        file_attr.write(fd, command, value)
    finally:
        os.close(fd)
    ov.changed(node.ino)


def _open(ov: Overlay, node: Node) -> int:
    """Open what answers for an object."""
    if isinstance(node, Directory):
        top = parts_of(ov, node).top
        if isinstance(top.tree, DirTree):
            return file_attr.open_directory(ov.fd(top))
    elif isinstance(node, File) and node.is_regular and isinstance(handle := handle_of(ov, node), int):
        return os.dup(handle)
    raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
