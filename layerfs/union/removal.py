"""Removing names. Each removal is one rename or one system call in the upper: a crash leaves old or new.

What is still in use when its name goes is held on to: files by a descriptor, directories by their top share's.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from layerfs.sys import dirs
from layerfs.union.copyup import copy_up, copy_up_directory
from layerfs.union.data import fd_of
from layerfs.union.inodes import Directory, File
from layerfs.union.layers import Part
from layerfs.union.lookup import drop_name, lookup
from layerfs.union.mutate import fail
from layerfs.union.readdir import listing_of, parts_of
from layerfs.union.state import Overlay
from layerfs.union.whiteout import WH, has_file_form


def hides(parent: Directory, name: bytes) -> bool:
    """Tell whether something of the lowers would appear if the upper had nothing at a visible name."""
    where = (parent.listing or {}).get(name)
    return name in parent.covered or where not in (0, (0,))


def unlink(ov: Overlay, parent: Directory, name: bytes) -> None:
    """Remove a name of a file. An open one lives on, with no links, until it is closed."""
    ov.writable()
    node, st = lookup(ov, parent, name)
    try:
        if not isinstance(node, File):
            raise fail(errno.EISDIR)
        if st.st_nlink > 1 and not node.is_upper:
            copy_up(ov, node)  # the other names keep the right number of links
        part = copy_up_directory(ov, parent)
        pin(ov, node, parent, name)
        covered = hides(parent, name)
        with ov.handles.held():
            remove_upper(ov, ov.fd(part), parent, name, whiteout=covered)
        forget_name(parent, name, covered=covered)
        drop_name(ov, node, parent, name)
    finally:
        ov.table.reap(node)


def remove_upper(ov: Overlay, at: int, parent: Directory, name: bytes, *, whiteout: bool) -> None:
    """Take a file's name from the upper, leaving a whiteout where something of the lowers would appear."""
    _, marks = ov.writable()
    in_upper = (parent.listing or {}).get(name) == 0
    if not whiteout:
        os.unlink(name, dir_fd=at)
    elif marks.devices and not in_upper:
        marks.make(at, name)
        parent.whites[name] = True
    elif marks.devices or not has_file_form(name):
        work, temporary = _stage_whiteout(ov, at)
        os.rename(temporary, name, src_dir_fd=work, dst_dir_fd=at)
        parent.whites[name] = True
    else:
        make_file_whiteout(at, name)
        if in_upper:
            os.unlink(name, dir_fd=at)
        parent.whites[name] = False


def _stage_whiteout(ov: Overlay, home: int) -> tuple[int, bytes]:
    """Make a whiteout in the scratch directory that may be moved to any name in `home`."""
    work, marks = ov.writable()
    temporary = work.name()
    if marks.devices:
        marks.make(work.fd, temporary)
    else:
        marks.make_by_xattr(temporary, home)
    return work.fd, temporary


def cover(ov: Overlay, at: int, parent: Directory, name: bytes) -> None:
    """Put a whiteout that is no `.wh.` file at a name that was just vacated."""
    work, temporary = _stage_whiteout(ov, at)
    os.rename(temporary, name, src_dir_fd=work, dst_dir_fd=at)
    parent.whites[name] = True


def make_file_whiteout(at: int, name: bytes) -> None:
    """Leave a `.wh.NAME` file, where devices cannot be made."""
    flags = os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    os.close(os.open(WH + name, flags, 0o600, dir_fd=at))


def forget_name(parent: Directory, name: bytes, *, covered: bool) -> None:
    """Take a name from the listing; `covered` stays noted for whoever makes it again."""
    if parent.listing is not None:
        parent.listing.pop(name, None)
    if covered:
        parent.covered.add(name)


def pin(ov: Overlay, node: File, parent: Directory, name: bytes) -> None:
    """Hold on to a file that is about to lose its last known name while somebody may still ask for it."""
    extra = node.extra
    if node.parent is not parent or node.name != name or (extra is not None and extra.aliases):
        return
    if node.lookups == 0 and (extra is None or extra.opens == 0):
        return
    extra = node.opened()
    if extra.opens and node.is_regular:
        fd_of(ov, node)
    elif extra.anchor() < 0 and node.place is not None:
        extra.pinned = node.place.tree.pin(ov.fd(node.place), name)


def rmdir(ov: Overlay, parent: Directory, name: bytes) -> None:
    """Remove a directory that shows nothing, whatever whiteouts it holds."""
    ov.writable()
    node, _ = lookup(ov, parent, name)
    try:
        if not isinstance(node, Directory):
            raise fail(errno.ENOTDIR)
        if listing_of(ov, node):
            raise fail(errno.ENOTEMPTY)
        part = copy_up_directory(ov, parent)
        covered = hides(parent, name)
        with ov.handles.held(), grip(ov, node) as fd:
            if node.upper() is None:
                remove_upper(ov, ov.fd(part), parent, name, whiteout=True)
            else:
                _remove_upper_directory(ov, ov.fd(part), parent, name, whiteout=covered)
            bury(ov, node, fd)
        forget_name(parent, name, covered=covered)
    finally:
        ov.table.reap(node)


@contextmanager
def grip(ov: Overlay, node: Directory) -> Iterator[int]:
    """Open once more what the attributes of a directory come from, for `bury`; closed if it does not come to that."""
    top = next(part for part in parts_of(ov, node) if part is not None)
    fd = top.tree.hold_dir(ov.fd(top))
    try:
        yield fd
    finally:
        if node.pinned < 0:
            top.tree.close_dir(fd)


def bury(ov: Overlay, node: Directory, fd: int) -> None:
    """Hold a removed directory by the descriptor that `grip` gave, for those who are still in it; it shows nothing."""
    top = next(part for part in parts_of(ov, node) if part is not None)
    for part in node.parts or ():
        if part is not None:
            ov.handles.drop(part)
    node.pinned = fd
    node.parts = [Part(top.tree, None, b"", fd)]
    node.listing, node.dead = {}, True


def _remove_upper_directory(ov: Overlay, at: int, parent: Directory, name: bytes, *, whiteout: bool) -> None:
    work, marks = ov.writable()
    if not whiteout:
        try:
            os.rmdir(name, dir_fd=at)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        temporary = work.name()
        dirs.move(at, name, work.fd, temporary)  # only whiteouts are left in it
    elif marks.devices or not has_file_form(name):
        _, temporary = _stage_whiteout(ov, at)
        dirs.move(work.fd, temporary, at, name, dirs.RENAME_EXCHANGE)
        parent.whites[name] = True
    else:
        temporary = work.name()
        make_file_whiteout(at, name)
        dirs.move(at, name, work.fd, temporary)
        parent.whites[name] = False
    with suppress(OSError):  # it is removed; the next mount empties the scratch directory
        dirs.remove(work.fd, temporary)
