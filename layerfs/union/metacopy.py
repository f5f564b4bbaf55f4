"""Files whose metadata were copied up without their data (`overlay.metacopy`): read, and completed, but never made."""

import errno
import os

from layerfs.sys import dirs
from layerfs.sys.settle import settle
from layerfs.union import opened
from layerfs.union.inodes import Directory, File
from layerfs.union.layers import Part
from layerfs.union.opened import Handle
from layerfs.union.readdir import parts_of
from layerfs.union.redirect import targets
from layerfs.union.state import Overlay, Writable

_NAMES = ("trusted.overlay.metacopy", "user.overlay.metacopy")
_REDIRECTS = ("trusted.overlay.redirect", "user.overlay.redirect")


def is_metacopy(fd: Handle) -> bool:
    """Tell whether an open file is only metadata, or was being given its data when all ended."""
    return any(name in _NAMES for name in opened.xattrs(fd)) and opened.stat(fd).st_size > 0


def data_of(ov: Overlay, node: File, part: Part, handle: Handle) -> Handle:
    """Open the data of a file that `part` has: `handle` itself, or the lower file that a metacopy stands for."""
    if not is_metacopy(handle):
        return handle
    try:
        return _open_below(ov, node.above(), part, node.name, handle)
    finally:
        opened.close(handle)


def complete(ov: Writable, node: File, part: Part, fd: int) -> None:
    """Give an upper file that is only metadata its data, before it is written to or leaves its place."""
    names = dirs.xattrs(fd)
    if not any(name in _NAMES for name in names):
        return
    st = os.fstat(fd)
    if st.st_size:
        source = _open_below(ov, node.above(), part, node.name, fd)
        try:
            opened.copy(source, fd, st.st_size)
        finally:
            opened.close(source)
        settle(fd)
        os.utime(fd, ns=(st.st_atime_ns, st.st_mtime_ns))
    for name in (*_NAMES, *_REDIRECTS):  # in this order: without its redirect it would not find its data any more
        if name in names:
            os.removexattr(fd, name)


def complete_in_place(ov: Writable, node: File) -> None:
    """As `complete`, for a file that is not open."""
    part = node.part
    if part is None or part.tree.index or not node.is_regular:
        return
    if not any(name in _NAMES for name in dirs.xattrs(dirs.path_of(ov.fd(part), node.name))):
        return
    fd = ov.upper.tree.open(ov.fd(part), node.name, os.O_RDWR)
    try:
        complete(ov, node, part, fd)
    finally:
        os.close(fd)


def _open_below(ov: Overlay, parent: Directory, above: Part, name: bytes, fd: Handle) -> Handle:
    redirect = next((v for n in _REDIRECTS if (v := opened.getxattr_or_none(fd, n)) is not None), None)
    for part, below in _candidates(ov, parent, above, redirect or name):
        try:
            found = part.tree.open(ov.fd(part), below, os.O_RDONLY)
        except FileNotFoundError:
            continue
        if not is_metacopy(found):
            return found
        try:
            return _open_below(ov, parent, part, below, found)
        finally:
            opened.close(found)
    raise OSError(errno.EIO, "data of a metacopy file are in no layer", name)


def _candidates(ov: Overlay, parent: Directory, above: Part, trail: bytes) -> list[tuple[Part, bytes]]:
    """Return where the data may be: top first."""
    directory, _, name = trail.rpartition(b"/")
    if directory:
        return [(part, name) for part in targets(ov, parent, above, directory)]
    if trail.startswith(b"/"):
        return [(Part(tree, None, b"", tree.root()), name) for tree in ov.lowers[above.tree.index :]]
    return [(part, name) for part in parts_of(ov, parent).lowers if part.tree.index > above.tree.index]
