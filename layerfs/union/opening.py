"""Opening the trees of a stack: its lowers, its upper with the work directory, and what both can hold."""

import os
from collections.abc import Callable
from contextlib import ExitStack

from layerfs.errors import Unsupported
from layerfs.model import Stack
from layerfs.sys import dirs, target
from layerfs.sys.limits import raise_open_files
from layerfs.union.layers import DirTree, Tree
from layerfs.union.mark_trust import mark_trust_of
from layerfs.union.numbers import Numbers
from layerfs.union.options import OverrideStat, UnionOptions
from layerfs.union.owners import OVERRIDES, override_value
from layerfs.union.pool import Room
from layerfs.union.state import Overlay, Upper, Writable
from layerfs.union.validate import crossed
from layerfs.union.whiteout import Marks
from layerfs.union.work import open_work

Opener = Callable[[bytes, int], Tree]
MAX_HANDLES = 8192  # directories of the layers held open at once; guessed, not yet measured
RESERVED = 128  # descriptors for directories, copies and threads when files take all others; guessed


def open_stack(
    stack: Stack, options: UnionOptions, mountpoint: bytes | None, open_tree: Opener, closing: ExitStack
) -> Overlay:
    """Open the trees of a stack that was found valid; `closing` releases what was opened so far."""
    lowers: list[Tree] = []
    tree = DirTree(stack.upper, 0) if stack.upper is not None else None
    if tree is not None:
        closing.callback(tree.close)
    apart = crossed(stack, mountpoint)
    for index, path in enumerate(stack.lowers, 1):
        lowers.append(_open_apart(path, index) if path in apart else open_tree(path, index))
        closing.callback(lowers[-1].close)
    room = _room(len(lowers) + 1)
    if tree is None or stack.work is None:
        ov = Overlay(lowers, None, _numbers(lowers, options), options, room)
    else:
        work = open_work(stack.work, tree.root(), volatile=options.volatile)
        with ExitStack() as closing_work:
            closing_work.callback(work.close)
            upper = Upper(tree, work, Marks(work.fd, user=options.userxattr))
            if not upper.marks.can_hide:
                raise _no_whiteouts(tree.path)
            closing_work.pop_all()
        closing.callback(upper.close)
        ov = Writable(lowers, upper, _numbers([tree, *lowers], options), options, room)
        if ov.owners.override is not None:
            _mark_override(options, tree.root(), ov.owners.override)
    ov.mark_trust = mark_trust_of(options)
    for each in ov.trees:
        each.mark_trust = ov.mark_trust
        ov.owners.adopt(each)
    return ov


def _open_apart(path: bytes, index: int) -> DirTree:
    """Open a lower without what is mounted in it, as kernel overlayfs has it.

    The upper or the mountpoint is mounted in there: the mount would show the upper twice, or wait for itself.
    """
    from layerfs.sys.fsmount import clone_tree

    try:
        mount = clone_tree(path)
    except PermissionError:
        raise Unsupported(
            f"layer {os.fsdecode(path)} holds, on other filesystems, directories of this very mount",
            "only root can leave them out: put upper, work directory and mountpoint beside the layer",
        ) from None
    try:
        return DirTree(path, index, target.reopen(mount, os.O_RDONLY | os.O_DIRECTORY))
    finally:
        os.close(mount)


def _no_whiteouts(path: bytes) -> Unsupported:
    """Return the error for an upper on an overlay that keeps every form of whiteout to itself."""
    return Unsupported(
        f"upper directory {os.fsdecode(path)} can hold no whiteouts, so nothing of the layers could be removed",
        "put upper and work directory on a filesystem that is no overlay",
    )


def _numbers(trees: list[Tree], options: UnionOptions) -> Numbers:
    """Rank the filesystems from the bottom up, the upper last, so that a new layer on top changes no number."""
    lowers = [tree.device for tree in reversed(trees) if tree.index]
    return Numbers(lowers + [tree.device for tree in trees if not tree.index], compact=not options.xino)


def _room(layers: int) -> Room:
    """Divide the descriptors: roots and threads take theirs; of the rest, half may be directories."""
    free = raise_open_files() - layers
    return Room(max(min(free // 2, MAX_HANDLES), 16), max(free - RESERVED, 16))


def _mark_override(options: UnionOptions, root: int, name: str) -> None:
    """Note on the upper's root that ownership is kept in xattrs: readers look there (fuse-overlayfs)."""
    if options.override_stat is OverrideStat.OFF:
        return
    if any(found in OVERRIDES for found in dirs.xattrs(root)):
        return  # begun before, perhaps by fuse-overlayfs 1.10, whose name differs
    st = os.fstat(root)
    try:
        target.setxattr(root, name, override_value(st.st_uid, st.st_gid, st.st_mode))
    except OSError:
        raise _no_override(options.override_stat) from None


def _no_override(mode: OverrideStat) -> Unsupported:
    return Unsupported(
        f"the upper directory cannot carry {OVERRIDES[mode - 1]}",
        f"xattr_permissions={int(mode)} needs {'root' if mode is OverrideStat.PRIVILEGED else 'user xattrs'} there",
    )
