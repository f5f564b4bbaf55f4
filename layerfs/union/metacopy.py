"""Files whose metadata was copied up without their data (`overlay.metacopy`): read, and completed, but never written."""

import os

from layerfs.sys import dirs
from layerfs.sys.copy import copy_data
from layerfs.union.inodes import Directory, File
from layerfs.union.layers import Part
from layerfs.union.readdir import parts_of
from layerfs.union.redirect import targets
from layerfs.union.state import Overlay

_NAMES = ("trusted.overlay.metacopy", "user.overlay.metacopy")
_REDIRECTS = ("trusted.overlay.redirect", "user.overlay.redirect")


def is_metacopy(fd: int) -> bool:
    """Tell whether an open file is only metadata; most files are ruled out by having blocks, or no size."""
    st = os.fstat(fd)
    return bool(st.st_size and not st.st_blocks) and any(name in _NAMES for name in dirs.xattrs(fd))


def data_of(ov: Overlay, node: File, fd: int) -> int:
    """Return a descriptor of the file's data: `fd` itself, or in its stead the one of the lower that holds them."""
    if not is_metacopy(fd):
        return fd
    try:
        return _open_below(ov, node, fd)
    finally:
        os.close(fd)


def complete(ov: Overlay, node: File, fd: int) -> None:
    """Give an upper file that is only metadata its data, before it is written to."""
    if not is_metacopy(fd):
        return
    source = _open_below(ov, node, fd)
    try:
        copy_data(source, fd, os.fstat(fd).st_size)
    finally:
        os.close(source)
    for name in dirs.xattrs(fd):
        if name in _NAMES or name in _REDIRECTS:
            os.removexattr(fd, name)


def _open_below(ov: Overlay, node: File, fd: int) -> int:
    place = node.place
    assert place is not None and node.parent is not None
    redirect = next((v for n in _REDIRECTS if (v := dirs.getxattr_or_none(fd, n)) is not None), None)
    for part, name in _candidates(ov, node, place, redirect):
        try:
            below = part.tree.open(ov.fd(part), name, os.O_RDONLY)
        except FileNotFoundError:
            continue
        if not is_metacopy(below):
            return below
        os.close(below)
    raise FileNotFoundError(2, "data of a metacopy file are in no layer", node.name)


def _candidates(ov: Overlay, node: File, place: Part, redirect: bytes | None) -> list[tuple[Part, bytes]]:
    assert node.parent is not None
    if redirect is not None and redirect.startswith(b"/"):
        directory, _, name = redirect.rpartition(b"/")
        parent = Directory(0, node.parent, node.name, ())
        if directory:
            return [(part, name) for part in targets(ov, parent, place, directory)]
        return [(Part(t, None, b"", t.root()), name) for t in ov.trees if t is not None and t.index > place.tree.index]
    below = [p for p in parts_of(ov, node.parent) if p is not None and p.tree.index > place.tree.index]
    return [(part, redirect or node.name) for part in below]
