"""Removing names. Each removal is one rename or one system call in the upper: a crash leaves old or new.

What is still in use when its name goes is held on to: files by a descriptor, directories by their top share's.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from layerfs.sys import dirs
from layerfs.union.copyup import copy_up_directory, cover_link, lower_part
from layerfs.union.inodes import Directory, File
from layerfs.union.layers import Part, Parts, Tree
from layerfs.union.listing import Listing, Whiteout
from layerfs.union.lookup import attributes, drop_name, lookup
from layerfs.union.metacopy import complete_before_removal
from layerfs.union.metadata import copy_metadata
from layerfs.union.mutate import fail
from layerfs.union.orphans import hold
from layerfs.union.readdir import listing_of, parts_of
from layerfs.union.replace import NO_FLAG, directory_by_whiteout, make_file_whiteout, put_whiteout
from layerfs.union.state import FEW, Attributes, Writable
from layerfs.union.whiteout import has_file_form


def unlink(ov: Writable, parent: Directory, name: bytes) -> None:
    """Remove a name of a file. An open one lives on, with no links, until it is closed."""
    node, _ = lookup(ov, parent, name)
    try:
        if not isinstance(node, File):
            raise fail(errno.EISDIR)
        part = copy_up_directory(ov, parent)
        pin(ov, node, parent, name)
        listing = listing_of(ov, parent)
        shadowed = listing.needs_whiteout(name)
        with ov.handles.held():
            _remove_file(ov, ov.fd(part), listing, name, whiteout=shadowed)
        note_removed(ov, parent, name, shadowed=shadowed)
        drop_name(ov, node, parent, name)
    finally:
        ov.table.reap(node)


def note_removed(ov: Writable, parent: Directory, name: bytes, *, shadowed: bool) -> None:
    """Note that a name is gone; `shadowed` says that the lowers still have it."""
    lower = lower_part(ov, parent, name)
    listing_of(ov, parent).removed(name, shadowed=shadowed)
    if lower is not None:
        cover_link(ov, lower, name)


def _remove_file(ov: Writable, at: int, listing: Listing, name: bytes, *, whiteout: bool) -> None:
    """Remove a file's name from the upper, leaving a whiteout where something of the lowers would appear."""
    marks, where = ov.upper.marks, listing.names.get(name)
    in_upper = isinstance(where, Part) and where.is_upper
    if not whiteout:
        os.unlink(name, dir_fd=at)
    elif marks.devices and not in_upper:
        marks.make(at, name)
        listing.whiteout_made(name, Whiteout.AT_NAME)
    elif marks.devices or not has_file_form(name):
        put_whiteout(ov, at, listing, name)
    else:
        make_file_whiteout(at, name)
        if in_upper:
            os.unlink(name, dir_fd=at)
        listing.whiteout_made(name, Whiteout.BESIDE)


def pin(ov: Writable, node: File, parent: Directory, name: bytes) -> None:
    """Hold on to a file that is about to lose its last known name while somebody may still ask for it."""
    extra = node.extra
    if node.parent is not parent or node.name != name or (extra is not None and extra.aliases):
        return
    if node.lookups == 0 and (extra is None or extra.opens == 0):
        return
    complete_before_removal(ov, node)
    hold(ov, node)


def rmdir(ov: Writable, parent: Directory, name: bytes) -> None:
    """Remove a directory that shows nothing, whatever whiteouts it holds."""
    node, _ = lookup(ov, parent, name)
    try:
        if not isinstance(node, Directory):
            raise fail(errno.ENOTDIR)
        if listing_of(ov, node).names:
            raise fail(errno.ENOTEMPTY)
        part = copy_up_directory(ov, parent)
        listing = listing_of(ov, parent)
        shadowed = listing.needs_whiteout(name)
        with ov.handles.held(), second_handle(ov, node) as held:
            if node.upper() is None:
                _remove_file(ov, ov.fd(part), listing, name, whiteout=True)
            else:
                aside = _remove_upper_directory(ov, ov.fd(part), listing, name, whiteout=shadowed)
                if aside is not None:
                    ov.upper.work.discard(aside, len(listing_of(ov, node).whiteouts))
            mark_removed(ov, node, held)
        listing.removed(name, shadowed=shadowed)
    finally:
        ov.table.reap(node)


@contextmanager
def second_handle(ov: Writable, node: Directory) -> Iterator[tuple[int, Attributes]]:
    """Open a directory's top share once more, for `mark_removed`; the handle is closed if it does not come to that.

    Yields the handle and what stat shows before the directory is gone.
    """
    top = parts_of(ov, node).top
    fd = top.tree.hold_dir(ov.fd(top))
    try:
        yield fd, attributes(ov, node)
    finally:
        if node.pinned is None:
            top.tree.close_dir(fd)


def mark_removed(ov: Writable, node: Directory, held: tuple[int, Attributes]) -> None:
    """Note that a directory was removed. It shows nothing; who is still in it reaches it by its second handle.

    Only what stat showed is kept where such handles get scarce, and on filesystems that lose what has no name (FUSE).
    """
    fd, remains = held
    parts = parts_of(ov, node)
    tree = parts.top.tree
    for part in parts.all():
        ov.handles.drop(part)
    if ov.files.is_crowded or not _is_alive(tree, fd):
        node.remains, node.parts = remains, Parts()
    else:
        part = Part(tree, None, b"", fd)
        node.pinned = fd
        node.parts = Parts(upper=part) if part.is_upper else Parts(lowers=[part])
        ov.files.hold(node)
    node.listing, node.dead = Listing({}), True
    if ov.table.front is not None:
        ov.table.front.drop(node.ino)


def _is_alive(tree: Tree, fd: int) -> bool:
    """Tell whether a handle of a removed directory still serves."""
    try:
        tree.stat_dir(fd)
    except OSError:  # ENOENT, ESTALE
        return False
    return True


@contextmanager
def emptied(ov: Writable, at: int, name: bytes, target: Directory) -> Iterator[None]:
    """Make a directory of the upper that shows nothing truly empty, so that a rename(2) may replace it.

    Opaque first, so that emptying it shows nothing either. Many whiteouts are not removed one by one: an empty
    directory that is alike in all else takes the place, and what it replaces is thrown away after that rename.
    """
    own = target.upper()
    if own is None:
        yield
        return
    fd, count = ov.fd(own), len(listing_of(ov, target).whiteouts)
    replaced = _put_empty_directory(ov, at, name, fd) if count > FEW else None
    if replaced is None:
        ov.upper.marks.set_opaque(dirs.held(fd), fd)
        dirs.insist(fd, lambda: dirs.empty(fd))
        yield
        return
    try:
        yield
    except BaseException:
        dirs.move(ov.upper.work.fd, replaced, at, name, dirs.RENAME_EXCHANGE)
        dirs.remove(ov.upper.work.fd, replaced)
        raise
    ov.upper.work.discard(replaced, count)


def _put_empty_directory(ov: Writable, at: int, name: bytes, old: int) -> bytes | None:
    """Exchange the directory `old` with an empty, opaque one; return its name in the scratch directory.

    None where the upper's filesystem cannot exchange, or what makes a directory opaque is a file in it.
    """
    if not ov.upper.marks.xattrs:
        return None
    scratch, tree, temporary = ov.upper.work.fd, ov.upper.tree, ov.upper.work.name()
    os.mkdir(temporary, 0o700, dir_fd=scratch)
    try:
        path = dirs.path_of(scratch, temporary)
        ov.upper.marks.set_opaque(path)
        copy_metadata(ov, tree, tree.reach_dir(old), path, tree.stat_dir(old))
        dirs.move(scratch, temporary, at, name, dirs.RENAME_EXCHANGE)
    except BaseException as error:
        dirs.remove(scratch, temporary)
        if isinstance(error, OSError) and error.errno in NO_FLAG:
            return None
        raise
    return temporary


def _remove_upper_directory(ov: Writable, at: int, listing: Listing, name: bytes, *, whiteout: bool) -> bytes | None:
    """Remove a directory that shows nothing. Returns its name in the scratch directory if it holds whiteouts still."""
    work = ov.upper.work
    if not whiteout:
        try:
            os.rmdir(name, dir_fd=at)
            return None
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        aside = work.name()
        dirs.move(at, name, work.fd, aside)  # only whiteouts are left in it
        return aside
    return directory_by_whiteout(ov, at, listing, name)
