"""Rename of everything, merged and lower directories included.

Order of work: look, copy up what moves and both parents, make a moved directory independent of its place (flatten.py),
then one rename in the upper. RENAME_WHITEOUT leaves the whiteout at the old name in the same system call, so that there
is no moment in which the lower shines through. What can fail comes before that rename; the tables follow it.
"""

import errno
from collections.abc import Iterator
from contextlib import ExitStack

from layerfs.sys import dirs
from layerfs.union import hardlinks
from layerfs.union.copyup import copy_up, copy_up_directory, link_upper
from layerfs.union.flatten import detaching, seal
from layerfs.union.inodes import Directory, File, Node
from layerfs.union.kept import keep_beside
from layerfs.union.lookup import drop_name, lookup
from layerfs.union.mutate import drop_file_whiteout, fail
from layerfs.union.readdir import listing_of, parts_of
from layerfs.union.removal import bury, cover, forget_name, grip, hides, make_file_whiteout, pin
from layerfs.union.state import Overlay
from layerfs.union.whiteout import NAME_MAX, WH, has_file_form, is_marker_name
from layerfs.value import value

_FLAGS = dirs.RENAME_NOREPLACE | dirs.RENAME_EXCHANGE | dirs.RENAME_WHITEOUT


@value
class Move:
    """What is to be renamed: `name` in `parent` becomes `new` in `to`, where `target` may stand."""

    source: Node
    parent: Directory
    name: bytes
    to: Directory
    new: bytes
    target: Node | None

    @property
    def is_dir(self) -> bool:
        """Whether a directory moves."""
        return isinstance(self.source, Directory)

    def back(self) -> "Move":
        """Return the other half of an exchange."""
        assert self.target is not None
        return Move(self.target, self.to, self.new, self.parent, self.name, self.source)


def renaming(ov: Overlay, parent: Directory, name: bytes, to: Directory, new: bytes, flags: int) -> Iterator[File]:
    """Rename with renameat2(2) flags, stepwise: each file that is to be copied up is yielded first, others may come in.

    Raises OSError: EEXIST (NOREPLACE), ENOTEMPTY, EISDIR, ENOTDIR, EINVAL for flags that exclude each other.
    """
    move = _find(ov, parent, name, to, new, flags)
    moving = [move.source] if move.source is not move.target else []
    if moving and flags & dirs.RENAME_EXCHANGE and move.target is not None:
        moving.append(move.target)
    for node in moving:
        with ExitStack() as held:
            node.lookups += 1
            held.callback(ov.table.forget, node.ino, 1)
            yield from detaching(ov, node)
    _rename(ov, _find(ov, parent, name, to, new, flags), flags)


def _find(ov: Overlay, parent: Directory, name: bytes, to: Directory, new: bytes, flags: int) -> Move:
    """Look up both names and refuse what rename(2) refuses."""
    ov.writable()
    _check(parent, to, new, flags)
    source, _ = lookup(ov, parent, name)
    target = None
    try:
        if flags & dirs.RENAME_NOREPLACE and new in listing_of(ov, to):
            raise fail(errno.EEXIST)
        target = lookup(ov, to, new)[0] if new in listing_of(ov, to) else None
        if flags & dirs.RENAME_EXCHANGE:
            if target is None:
                raise fail(errno.ENOENT)
        elif target is not None and target is not source:
            _check_replace(ov, source, target)
    except OSError:
        ov.table.reap(source)
        ov.table.reap(target)
        raise
    return Move(source, parent, name, to, new, target)


def _check(parent: Directory, to: Directory, new: bytes, flags: int) -> None:
    exclusive = flags & dirs.RENAME_EXCHANGE and flags & (dirs.RENAME_NOREPLACE | dirs.RENAME_WHITEOUT)
    if flags & ~_FLAGS or exclusive:
        raise fail(errno.EINVAL)
    if parent.dead or to.dead:
        raise fail(errno.ENOENT)
    if len(new) > NAME_MAX:
        raise fail(errno.ENAMETOOLONG)
    if is_marker_name(new):
        raise fail(errno.EPERM)


def _check_replace(ov: Overlay, source: Node, target: Node) -> None:
    if isinstance(target, Directory):
        if not isinstance(source, Directory):
            raise fail(errno.EISDIR)
        if listing_of(ov, target):
            raise fail(errno.ENOTEMPTY)
    elif isinstance(source, Directory):
        raise fail(errno.ENOTDIR)


def _rename(ov: Overlay, move: Move, flags: int) -> None:
    try:
        if move.source is move.target:
            return  # two names of one file: rename(2) does nothing
        if flags & dirs.RENAME_EXCHANGE:
            _exchange(ov, move)
        else:
            _replace(ov, move, leave_whiteout=bool(flags & dirs.RENAME_WHITEOUT))
    finally:
        ov.table.reap(move.source)
        ov.table.reap(move.target)


def _own(ov: Overlay, node: Node, parent: Directory, name: bytes) -> None:
    """Get what moves into the upper, so that it can live under any name."""
    for _file in detaching(ov, node):
        pass
    if isinstance(node, File) and listing_of(ov, parent)[name] != 0:
        link_upper(ov, node, parent, name)  # a lower hard link whose copy-up stopped half-way


def _replace(ov: Overlay, move: Move, *, leave_whiteout: bool) -> None:
    source, parent, name, to, new, target = (
        move.source, move.parent, move.name, move.to, move.new, move.target,
    )  # fmt: skip
    _own(ov, source, parent, name)
    from_part, to_part = copy_up_directory(ov, parent), copy_up_directory(ov, to)
    if isinstance(target, File):
        if not target.is_upper and lookup(ov, to, new)[1].st_nlink > 1:
            copy_up(ov, target)
        pin(ov, target, to, new)
    covered, hidden = hides(parent, name), new in to.covered or (target is not None and hides(to, new))
    with ExitStack() as stack:
        stack.enter_context(ov.handles.held())
        fd = stack.enter_context(grip(ov, target)) if isinstance(target, Directory) else -1
        at, at_new = ov.fd(from_part), ov.fd(to_part)
        if isinstance(source, Directory):
            _prepare_directory(ov, source, to, new, target, hidden=hidden)
        _rename_upper(ov, at, at_new, move, whiteout=covered or leave_whiteout)
        if isinstance(target, Directory):
            bury(ov, target, fd)
    forget_name(parent, name, covered=covered)
    forget_name(to, new, covered=hidden)
    if isinstance(target, File):
        drop_name(ov, target, to, new)
    _relocate(ov, move)
    drop_file_whiteout(ov, to, new)
    if isinstance(source, File):
        keep_beside(ov, source)


def _prepare_directory(
    ov: Overlay, source: Directory, to: Directory, new: bytes, target: Node | None, *, hidden: bool
) -> None:
    """Keep a moved directory from merging with what the lowers have at its new name, and make that name free for it."""
    _, marks = ov.writable()
    if len(parts_of(ov, source)) == 1 and (hidden or new in to.whites):
        seal(ov, source)
    own = target.upper() if isinstance(target, Directory) else None
    if own is not None:  # it shows nothing, but holds whiteouts: opaque first, so that emptying it shows nothing either
        fd = ov.fd(own)
        marks.set_opaque(dirs.held(fd), fd)
        dirs.empty(fd)


def _rename_upper(ov: Overlay, at: int, at_new: int, move: Move, *, whiteout: bool) -> None:
    """Rename in the upper, leaving a whiteout at the old name if asked to."""
    _, marks = ov.writable()
    parent, name, new = move.parent, move.name, move.new
    if whiteout and not marks.devices and has_file_form(name):
        make_file_whiteout(at, name)
        parent.whites[name] = False
        whiteout = False
    if move.is_dir and move.to.whites.get(new) is True:  # they change places; a device may stay as the whiteout
        dirs.move(at, name, at_new, new, dirs.RENAME_EXCHANGE)
        if whiteout and marks.devices:
            parent.whites[name] = True
            return
        dirs.remove(at, name)
    elif whiteout and marks.devices:
        parent.whites[name] = _rename_leaving_whiteout(ov, at, name, at_new, new)
        return
    else:
        dirs.move(at, name, at_new, new)
    if whiteout:  # for a moment the lower shines through: a crash may leave both names, but loses nothing
        cover(ov, at, parent, name)


def _rename_leaving_whiteout(ov: Overlay, at: int, name: bytes, at_new: int, new: bytes) -> bool:
    """Rename with RENAME_WHITEOUT; where the filesystem lacks it, hide the lower by a file first, then by the device.

    Returns whether the whiteout is a device.
    """
    try:
        dirs.move(at, name, at_new, new, dirs.RENAME_WHITEOUT)
        return True
    except OSError as error:
        if error.errno != errno.EINVAL or not has_file_form(name):
            raise
    _, marks = ov.writable()
    make_file_whiteout(at, name)
    dirs.move(at, name, at_new, new)
    try:
        marks.make(at, name)
    except OSError:  # ENOSPC: the file does as well
        return False
    dirs.remove(at, WH + name)
    return True


def _relocate(ov: Overlay, move: Move) -> None:
    """Make the tables say what the upper now holds at the new name."""
    old = hardlinks.path_of_node(move.source) if isinstance(move.source, Directory) else b""
    _place(ov, move)
    if isinstance(move.source, Directory):
        hardlinks.moved(ov, {old: hardlinks.path_of_node(move.source)})


def _place(ov: Overlay, move: Move) -> None:
    """Give a node its new parent and name."""
    node, parent, name, to, new = move.source, move.parent, move.name, move.to, move.new
    part = to.upper()
    assert part is not None
    listing_of(ov, to)[new] = ov.span((0,)) if move.is_dir else 0
    if isinstance(node, Directory):
        own = node.upper()
        assert own is not None
        own.parent, own.name = part, new
        node.candidates = ov.span((0,))
        ov.table.move(node, to, new)
    elif isinstance(node, File):
        if node.parent is parent and node.name == name:
            node.place = part
            ov.table.move(node, to, new)
        elif node.extra is not None and (parent, name) in node.extra.aliases:
            del node.extra.aliases[parent, name]
            node.extra.aliases[to, new] = None
            to.kids += 1
            parent.kids -= 1
            ov.table.reap(parent)


def _exchange(ov: Overlay, move: Move) -> None:
    """Let two names change places; each of the two objects must live where the other's lowers are."""
    halves = (move, move.back())
    for half in halves:
        _own(ov, half.source, half.parent, half.name)
    here, there = copy_up_directory(ov, move.parent), copy_up_directory(ov, move.to)
    with ov.handles.held():
        for half in halves:
            if isinstance(half.source, Directory) and len(parts_of(ov, half.source)) == 1:
                seal(ov, half.source)
        dirs.move(ov.fd(here), move.name, ov.fd(there), move.new, dirs.RENAME_EXCHANGE)
    directories = [half.source for half in halves if isinstance(half.source, Directory)]
    old = [hardlinks.path_of_node(node) for node in directories]
    for half in halves:
        _place(ov, half)
    for half in halves:
        if isinstance(half.source, File):
            keep_beside(ov, half.source)
    hardlinks.moved(ov, dict(zip(old, map(hardlinks.path_of_node, directories), strict=True)))
