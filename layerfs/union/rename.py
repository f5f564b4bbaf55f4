"""Rename of everything, merged and lower directories included.

Order of work: look, copy up what moves and both parents, make a moved directory independent of its place (a redirect where
the kernel reads it back, else a copy of the whole tree), then one rename in the upper. RENAME_WHITEOUT leaves the whiteout at
the old name in the same system call, so that there is no moment in which the lower shines through.
"""

import errno
import os
from collections.abc import Iterator

from layerfs.sys import dirs
from layerfs.union import hardlinks
from layerfs.union.copyup import copy_up, copy_up_directory
from layerfs.union.inodes import Directory, File, Node
from layerfs.union.lookup import NAME_MAX, drop_name, lookup
from layerfs.union.mutate import bury, fail, forget_name, hides, make_file_whiteout, open_top, pin
from layerfs.union.options import RedirectDir
from layerfs.union.readdir import listing_of, parts_of
from layerfs.union.redirect import lower_path
from layerfs.union.state import Overlay
from layerfs.union.whiteout import WH, is_marker_name

REDIRECT_MAX = 255  # bytes; longer redirects the kernel does not write either (OVL_REDIRECT_MAX), and ext4 may not hold
_FLAGS = dirs.RENAME_NOREPLACE | dirs.RENAME_EXCHANGE | dirs.RENAME_WHITEOUT


def rename(ov: Overlay, parent: Directory, name: bytes, to: Directory, new: bytes, flags: int) -> None:
    """Rename with renameat2(2) flags.

    Raises OSError: EEXIST (NOREPLACE), ENOTEMPTY, EISDIR, ENOTDIR, EINVAL for flags that exclude each other.
    """
    ov.writable()
    _check(ov, parent, to, new, flags)
    source, _ = lookup(ov, parent, name)
    target = lookup(ov, to, new)[0] if new in listing_of(ov, to) else None
    if source is target:
        return  # two names of one file: rename(2) does nothing
    if flags & dirs.RENAME_EXCHANGE:
        if target is None:
            raise fail(errno.ENOENT)
        _exchange(ov, source, parent, name, target, to, new)
        return
    if target is not None:
        _check_replace(ov, source, target)
    _move(ov, source, parent, name, to, new, target, leave_whiteout=bool(flags & dirs.RENAME_WHITEOUT))


def _check(ov: Overlay, parent: Directory, to: Directory, new: bytes, flags: int) -> None:
    exclusive = flags & dirs.RENAME_EXCHANGE and flags & (dirs.RENAME_NOREPLACE | dirs.RENAME_WHITEOUT)
    if flags & ~_FLAGS or exclusive:
        raise fail(errno.EINVAL)
    if parent.dead or to.dead:
        raise fail(errno.ENOENT)
    if len(new) > NAME_MAX:
        raise fail(errno.ENAMETOOLONG)
    if is_marker_name(new):
        raise fail(errno.EPERM)
    if flags & dirs.RENAME_NOREPLACE and new in listing_of(ov, to):
        raise fail(errno.EEXIST)


def _check_replace(ov: Overlay, source: Node, target: Node) -> None:
    if isinstance(target, Directory):
        if not isinstance(source, Directory):
            raise fail(errno.EISDIR)
        if listing_of(ov, target):
            raise fail(errno.ENOTEMPTY)
    elif isinstance(source, Directory):
        raise fail(errno.ENOTDIR)


def _own(ov: Overlay, node: Node) -> None:
    """Get what moves into the upper, so that it can live under any name."""
    if isinstance(node, File):
        copy_up(ov, node)
        return
    assert isinstance(node, Directory)
    copy_up_directory(ov, node)
    if len(parts_of(ov, node)) > 1:
        _detach(ov, node)


def _detach(ov: Overlay, node: Directory) -> None:
    """Make a merged directory independent of its name."""
    _, marks = ov.writable()
    mode = ov.options.redirect_dir
    path = lower_path(ov, node)
    follows = marks.trusted if mode is RedirectDir.AUTO else mode is RedirectDir.ON
    if follows and marks.xattrs and len(path) <= REDIRECT_MAX:
        upper = node.upper()
        assert upper is not None
        marks.set_redirect(b"/proc/self/fd/%d" % ov.fd(upper), path)
        return
    for _step in flatten(ov, node):
        pass


def flatten(ov: Overlay, node: Directory) -> Iterator[None]:
    """Copy a merged directory's whole tree into the upper, in place, and make its directories opaque, deepest first.

    Every step leaves the merged tree as it was. Yields after each copied file, so that a caller may let others in.
    """
    _hold(node)
    try:
        for name, where in list(listing_of(ov, node).items()):
            if where in (0, None) or name not in listing_of(ov, node):
                continue
            child, _ = lookup(ov, node, name)
            if isinstance(child, File):
                copy_up(ov, child)
                yield
            elif isinstance(child, Directory):
                copy_up_directory(ov, child)
                if len(parts_of(ov, child)) > 1:
                    yield from flatten(ov, child)
            ov.table.reap(child)
        _make_opaque(ov, node)
    finally:
        node.lookups -= 1


def _hold(node: Directory) -> None:
    node.lookups += 1


def _make_opaque(ov: Overlay, node: Directory) -> None:
    """Cut a directory off its lowers, all that it shows being in the upper."""
    part = copy_up_directory(ov, node)
    _seal(ov, node)
    fd = ov.fd(part)
    assert node.parts is not None
    for lower in node.parts[1:]:
        if lower is not None:
            ov.handles.drop(lower)
    del node.parts[1:]
    listing = listing_of(ov, node)
    for name, where in listing.items():
        if type(where) is tuple:
            listing[name] = ov.span((0,))
    for name in node.covered - set(listing):
        if node.whites.pop(name, None) is not None:
            _drop_whiteouts(fd, name)
    node.covered = set()


def _drop_whiteouts(fd: int, name: bytes) -> None:
    for form in (name, WH + name):
        dirs.remove(fd, form)


def _move(
    ov: Overlay,
    source: Node,
    parent: Directory,
    name: bytes,
    to: Directory,
    new: bytes,
    target: Node | None,
    *,
    leave_whiteout: bool,
) -> None:
    _own(ov, source)
    from_part, to_part = copy_up_directory(ov, parent), copy_up_directory(ov, to)
    covered, new_hides = hides(parent, name), new in to.covered or (target is not None and hides(to, new))
    with ov.handles.held():
        at, at_new = ov.fd(from_part), ov.fd(to_part)
        if isinstance(source, Directory):
            _prepare_directory(ov, source, to, new, target, hidden=new_hides)
        _vacate(ov, to, new, target)
        _rename_upper(ov, at, parent, name, at_new, to, new, whiteout=covered or leave_whiteout)
    forget_name(parent, name, covered=covered)
    _settle(ov, source, parent, name, to, new, target, covered=new_hides)
    ov.table.reap(source)


def _prepare_directory(
    ov: Overlay, source: Directory, to: Directory, new: bytes, target: Node | None, *, hidden: bool
) -> None:
    """Keep a moved directory from merging with what the lowers have at its new name, and make that name free for it."""
    _, marks = ov.writable()
    if len(parts_of(ov, source)) == 1 and (hidden or new in to.whites):
        _seal(ov, source)
    own = target.upper() if isinstance(target, Directory) else None
    if own is not None:  # it shows nothing, but holds whiteouts: opaque first, so that emptying it shows nothing either
        fd = ov.fd(own)
        marks.set_opaque(b"/proc/self/fd/%d" % fd, fd)
        dirs.empty(fd)


def _vacate(ov: Overlay, to: Directory, new: bytes, target: Node | None) -> None:
    """Hold on to what is about to be replaced, for those who have it open."""
    if isinstance(target, File):
        if not target.is_upper and lookup(ov, to, new)[1].st_nlink > 1:
            copy_up(ov, target)
        pin(ov, target, to, new)
    elif isinstance(target, Directory):
        open_top(ov, target)


def _rename_upper(
    ov: Overlay, at: int, parent: Directory, name: bytes, at_new: int, to: Directory, new: bytes, *, whiteout: bool
) -> None:
    _, marks = ov.writable()
    if to.whites.get(new) is True and type((parent.listing or {}).get(name)) is tuple:
        _swap_with_whiteout(at, parent, name, at_new, new, whiteout=whiteout)
        return
    if whiteout and not marks.devices:
        make_file_whiteout(at, name)
        parent.whites[name] = False
        whiteout = False
        dirs.rename(at, name, at_new, new)
    elif whiteout:
        _rename_leaving_whiteout(ov, at, name, at_new, new)
        parent.whites[name] = True
    else:
        dirs.rename(at, name, at_new, new)


def _swap_with_whiteout(at: int, parent: Directory, name: bytes, at_new: int, new: bytes, *, whiteout: bool) -> None:
    """Move a directory over a whiteout: they change places, and the whiteout stays where one is wanted."""
    dirs.rename(at, name, at_new, new, dirs.RENAME_EXCHANGE)
    if whiteout:
        parent.whites[name] = True
    else:
        os.unlink(name, dir_fd=at)


def _rename_leaving_whiteout(ov: Overlay, at: int, name: bytes, at_new: int, new: bytes) -> None:
    try:
        dirs.rename(at, name, at_new, new, dirs.RENAME_WHITEOUT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # A filesystem without RENAME_WHITEOUT: hide the lower by a file first, then by the device.
        _, marks = ov.writable()
        make_file_whiteout(at, name)
        dirs.rename(at, name, at_new, new)
        marks.make(at, name)
        dirs.remove(at, WH + name)


def _settle(
    ov: Overlay,
    source: Node,
    parent: Directory,
    name: bytes,
    to: Directory,
    new: bytes,
    target: Node | None,
    *,
    covered: bool,
) -> None:
    """Make the tables say what the upper now holds; what stood at the new name is gone."""
    if isinstance(target, Directory):
        bury(ov, target)
    if to.whites.pop(new, None) is False:
        part = to.upper()
        assert part is not None
        dirs.remove(ov.fd(part), WH + new)
    forget_name(to, new, covered=covered)
    if isinstance(target, File):
        drop_name(ov, target, to, new)
    relocate(ov, source, parent, name, to, new)
    listing_of(ov, to)[new] = ov.span((0,)) if isinstance(source, Directory) else 0
    ov.table.reap(target)


def relocate(ov: Overlay, node: Node, parent: Directory, name: bytes, to: Directory, new: bytes) -> None:
    """Give a node its new parent and name."""
    part = to.upper()
    assert part is not None
    if isinstance(node, Directory):
        old_path = hardlinks.path_of_node(node)
        own = node.upper()
        assert own is not None
        own.parent, own.name = part, new
        node.candidates = ov.span((0,))
        ov.table.move(node, to, new)
        hardlinks.moved(ov, old_path, hardlinks.path_of_node(node))
    elif isinstance(node, File):
        if node.parent is parent and node.name == name:
            node.place = part
            ov.table.move(node, to, new)
        elif node.extra is not None and (parent, name) in node.extra.aliases:
            node.extra.aliases.remove((parent, name))
            node.extra.aliases.append((to, new))
            to.kids += 1
            parent.kids -= 1
            ov.table.reap(parent)


def _exchange(ov: Overlay, one: Node, parent: Directory, name: bytes, other: Node, to: Directory, new: bytes) -> None:
    """Let two names change places; each of the two objects must live where the other's lowers are."""
    _own(ov, one)
    _own(ov, other)
    here, there = copy_up_directory(ov, parent), copy_up_directory(ov, to)
    with ov.handles.held():
        for node in (one, other):
            if isinstance(node, Directory) and len(parts_of(ov, node)) == 1:
                _seal(ov, node)
        dirs.rename(ov.fd(here), name, ov.fd(there), new, dirs.RENAME_EXCHANGE)
    listing_of(ov, parent)[name] = ov.span((0,)) if isinstance(other, Directory) else 0
    listing_of(ov, to)[new] = ov.span((0,)) if isinstance(one, Directory) else 0
    relocate(ov, one, parent, name, to, new)
    relocate(ov, other, to, new, parent, name)


def _seal(ov: Overlay, node: Directory) -> None:
    """Mark a directory that lives in the upper alone opaque, and keep its number."""
    _, marks = ov.writable()
    part = node.upper()
    assert part is not None
    fd = ov.fd(part)
    marks.set_opaque(b"/proc/self/fd/%d" % fd, fd)
    ov.keep_number(b"/proc/self/fd/%d" % fd, os.fstat(fd).st_ino, node.ino)
