"""Rename of everything, merged and lower directories included.

Order of work: look, copy up what moves and both parents, make a moved directory independent of its place (flatten.py),
then one rename in the upper. RENAME_WHITEOUT leaves the whiteout at the old name in the same system call, so that there
is no moment in which the lower shines through. What can fail comes before that rename; the tables follow it.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext

from layerfs.sys import dirs
from layerfs.union.copyup import copy_up_directory
from layerfs.union.flatten import Step, detaching, emptying, seal
from layerfs.union.inodes import Directory, File, Node
from layerfs.union.kept_numbers import keep_beside
from layerfs.union.listing import Listing, Whiteout
from layerfs.union.lookup import drop_name, lookup
from layerfs.union.mutate import fail, note_made
from layerfs.union.readdir import listing_of, parts_of
from layerfs.union.removal import emptied, mark_removed, note_removed, pin, second_handle
from layerfs.union.replace import NO_FLAG, hidden, make_file_whiteout, move_leaving_whiteout, put_whiteout
from layerfs.union.state import Writable
from layerfs.union.whiteout import NAME_MAX, has_file_form, is_marker_name
from layerfs.value import value

_FLAGS = dirs.RENAME_NOREPLACE | dirs.RENAME_EXCHANGE  # a whiteout that a user asks for is EINVAL, as in overlayfs


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


def renaming(ov: Writable, parent: Directory, name: bytes, to: Directory, new: bytes, flags: int) -> Iterator[Step]:
    """Rename with renameat2(2) flags, stepwise: others may come in before each step that is yielded.

    Raises OSError: EEXIST (NOREPLACE), ENOTEMPTY, EISDIR, ENOTDIR, EINVAL for flags that exclude each other.
    """
    move = _find(ov, parent, name, to, new, flags)
    moving = [(move.source, parent, name)] if move.source is not move.target else []
    if moving and flags & dirs.RENAME_EXCHANGE and move.target is not None:
        moving.append((move.target, to, new))
    for node, above, old in moving:
        with ExitStack() as held:
            node.lookups += 1
            held.callback(ov.table.forget, node.ino, 1)
            yield from detaching(ov, node, above, old)
    target = move.target
    if isinstance(target, Directory) and moving and not flags & dirs.RENAME_EXCHANGE:
        with ExitStack() as held:
            target.lookups += 1
            held.callback(ov.table.forget, target.ino, 1)
            yield from emptying(ov, target)
    _rename(ov, _find(ov, parent, name, to, new, flags), flags)


def _find(ov: Writable, parent: Directory, name: bytes, to: Directory, new: bytes, flags: int) -> Move:
    """Look up both names and refuse what rename(2) refuses."""
    _check(parent, to, new, flags)
    source, _ = lookup(ov, parent, name)
    target = None
    try:
        taken = new in listing_of(ov, to).names
        if flags & dirs.RENAME_NOREPLACE and taken:
            raise fail(errno.EEXIST)
        target = lookup(ov, to, new)[0] if taken else None
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
    exclusive = flags & dirs.RENAME_EXCHANGE and flags & dirs.RENAME_NOREPLACE
    if flags & ~_FLAGS or exclusive:
        raise fail(errno.EINVAL)
    if parent.dead or to.dead:
        raise fail(errno.ENOENT)
    if len(new) > NAME_MAX:
        raise fail(errno.ENAMETOOLONG)
    if is_marker_name(new):
        raise fail(errno.EPERM)


def _check_replace(ov: Writable, source: Node, target: Node) -> None:
    if isinstance(target, Directory):
        if not isinstance(source, Directory):
            raise fail(errno.EISDIR)
        if listing_of(ov, target).names:
            raise fail(errno.ENOTEMPTY)
    elif isinstance(source, Directory):
        raise fail(errno.ENOTDIR)


def _rename(ov: Writable, move: Move, flags: int) -> None:
    try:
        if move.source is move.target:
            return  # two names of one file: rename(2) does nothing
        if flags & dirs.RENAME_EXCHANGE and move.target is not None:
            _exchange(ov, move, Move(move.target, move.to, move.new, move.parent, move.name, move.source))
        else:
            _replace(ov, move)
    finally:
        ov.table.reap(move.source)
        ov.table.reap(move.target)


def _own(ov: Writable, node: Node, parent: Directory, name: bytes) -> None:
    """Get what moves into the upper, so that it can live under any name."""
    for _file in detaching(ov, node, parent, name):
        pass


def _replace(ov: Writable, move: Move) -> None:
    source, parent, name, to, new, target = (
        move.source, move.parent, move.name, move.to, move.new, move.target,
    )  # fmt: skip
    _own(ov, source, parent, name)
    from_part, to_part = copy_up_directory(ov, parent), copy_up_directory(ov, to)
    if isinstance(target, File):
        pin(ov, target, to, new)
    old, listing = listing_of(ov, parent), listing_of(ov, to)
    shadowed = old.needs_whiteout(name)
    hidden = listing.needs_whiteout(new) if target is not None else listing.is_shadowed(new)
    with ExitStack() as stack:
        stack.enter_context(ov.handles.held())
        held = stack.enter_context(second_handle(ov, target)) if isinstance(target, Directory) else None
        at, at_new = ov.fd(from_part), ov.fd(to_part)
        if isinstance(source, Directory):
            _keep_apart(ov, source, hidden=hidden or new in listing.whiteouts)
        with emptied(ov, at_new, new, target) if isinstance(target, Directory) else nullcontext():
            _rename_upper(ov, at, at_new, move, whiteout=shadowed)
        if isinstance(target, Directory) and held is not None:
            mark_removed(ov, target, held)
    old.removed(name, shadowed=shadowed)
    note_removed(ov, to, new, shadowed=hidden)
    if isinstance(target, File):
        drop_name(ov, target, to, new)
    _note_moved(ov, [move])
    if isinstance(source, File):
        keep_beside(ov, source, to_part, new)


def _keep_apart(ov: Writable, source: Directory, *, hidden: bool) -> None:
    """Keep a moved directory from merging with what the lowers have at its new name."""
    part = copy_up_directory(ov, source)
    if hidden and not parts_of(ov, source).lowers:
        seal(ov, part, source)


def _rename_upper(ov: Writable, at: int, at_new: int, move: Move, *, whiteout: bool) -> None:
    """Rename in the upper, leaving a whiteout at the old name if asked to."""
    marks, old = ov.upper.marks, listing_of(ov, move.parent)
    name, new = move.name, move.new
    if whiteout and not marks.devices and has_file_form(name):
        make_file_whiteout(at, name)
        old.whiteout_made(name, Whiteout.BESIDE)
        whiteout = False
    if not move.is_dir or not listing_of(ov, move.to).is_whiteout_at(new):
        _move_upper(ov, at, at_new, move, old, whiteout=whiteout)
        return
    try:  # they change places; a device may stay
        dirs.move(at, name, at_new, new, dirs.RENAME_EXCHANGE)
    except OSError as error:
        if error.errno not in NO_FLAG:
            raise
        with hidden(at_new, new):
            os.unlink(new, dir_fd=at_new)
            _move_upper(ov, at, at_new, move, old, whiteout=whiteout)
        return
    if whiteout and marks.devices:
        old.whiteout_made(name, Whiteout.AT_NAME)
        return
    dirs.remove(at, name)
    if whiteout:
        put_whiteout(ov, at, old, name)


def _move_upper(ov: Writable, at: int, at_new: int, move: Move, old: Listing, *, whiteout: bool) -> None:
    """Rename to a name that is vacant, or holds what a plain rename replaces."""
    if whiteout and ov.upper.marks.devices:
        old.whiteout_made(move.name, move_leaving_whiteout(ov, at, move.name, at_new, move.new))
        return
    dirs.move(at, move.name, at_new, move.new)
    if whiteout:  # for a moment the lower shines through: a crash may leave both names, but loses nothing
        put_whiteout(ov, at, old, move.name)


def _note_moved(ov: Writable, moves: list[Move]) -> None:
    """Make the tables say what the upper now holds at the new names."""
    for move in moves:
        _give_new_name(ov, move)


def _give_new_name(ov: Writable, move: Move) -> None:
    node, parent, name, to, new = move.source, move.parent, move.name, move.to, move.new
    part = copy_up_directory(ov, to)
    note_made(ov, to, part, new, is_dir=move.is_dir)
    if isinstance(node, Directory):
        own = copy_up_directory(ov, node)
        own.parent, own.name = part, new
        node.candidates = (part,)
        ov.table.move(node, to, new)
    elif isinstance(node, File):
        if node.parent is parent and node.name == name:
            node.part = part
            ov.table.move(node, to, new)
        elif node.extra is not None and (parent, name) in node.extra.aliases:
            del node.extra.aliases[parent, name]
            node.extra.aliases[to, new] = None
            to.children += 1
            parent.children -= 1
            ov.table.reap(parent)


def _exchange(ov: Writable, there: Move, back: Move) -> None:
    """Let two names change places; each of the two objects must live where the other's lowers are."""
    halves = (there, back)
    for half in halves:
        _own(ov, half.source, half.parent, half.name)
    from_part, to_part = copy_up_directory(ov, there.parent), copy_up_directory(ov, there.to)
    with ov.handles.held():
        for half in halves:
            if isinstance(half.source, Directory) and not parts_of(ov, half.source).lowers:
                seal(ov, copy_up_directory(ov, half.source), half.source)
        dirs.move(ov.fd(from_part), there.name, ov.fd(to_part), there.new, dirs.RENAME_EXCHANGE)
    _note_moved(ov, list(halves))
    for half in halves:
        if isinstance(half.source, File):
            keep_beside(ov, half.source, copy_up_directory(ov, half.to), half.new)
