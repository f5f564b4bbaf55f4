"""Flattening a merged directory: what is in its lowers is copied up, so that it can be renamed.

By `overlay.redirect` where the kernel reads it back; else by copying its whole tree into the upper, deepest first.
That is done stepwise: a caller may let others in between two steps, since each leaves the merged tree as it was.
"""

import errno
import itertools
import os
from collections.abc import Generator, Iterator

from layerfs.sys import dirs, target
from layerfs.union.copyup import copy_up, copy_up_directory, link_upper, lower_part, needs_copy_up
from layerfs.union.inodes import Directory, File, Node
from layerfs.union.layers import Part
from layerfs.union.listing import Listing
from layerfs.union.lookup import lookup, promote
from layerfs.union.metacopy import REDIRECT_MAX, complete_in_place, finds_data_anywhere, is_incomplete, trail_of
from layerfs.union.options import RedirectDir
from layerfs.union.readdir import listing_of, parts_of
from layerfs.union.redirect import lower_path
from layerfs.union.replace import can_put_aside
from layerfs.union.state import FEW, Writable
from layerfs.union.whiteout import WH, has_file_form

Step = File | Directory | None
"""Before a step of what may take long, when others may come in: a file that is to be copied, which the caller may do in
another way, a directory that is to be listed, or None where neither is needed."""


def detaching(ov: Writable, node: Node, parent: Directory, name: bytes) -> Iterator[Step]:
    """Copy up, stepwise, what a rename needs to have in the upper."""
    if isinstance(node, File):
        yield from _bring_file(ov, node, parent, name)
    elif isinstance(node, Directory):
        part = copy_up_directory(ov, node)
        if not parts_of(ov, node).lowers:
            return
        redirect = _redirect_of(ov, node)
        if redirect is None:
            yield from flatten(ov, node)
        else:
            ov.upper.marks.set_redirect(dirs.held(ov.fd(part)), redirect)


def _redirect_of(ov: Writable, node: Directory) -> bytes | None:
    """Return the redirect that keeps a directory's lowers wherever it goes; None if its reader would not follow it."""
    mode, marks = ov.options.redirect_dir, ov.upper.marks
    if not marks.xattrs or not (marks.trusted if mode is RedirectDir.AUTO else mode is RedirectDir.ON):
        return None
    if marks.prefix not in ov.mark_trust.prefixes:
        return None
    path = lower_path(ov, node)
    return path if len(path) <= REDIRECT_MAX else None


def flatten(ov: Writable, node: Directory) -> Iterator[Step]:
    """Copy a merged directory's whole tree into the upper, in place, and make its directories opaque, deepest first.

    A tree may be deeper than Python's stack: what is under way is a list.
    """
    node.lookups += 1
    under_way: list[tuple[Directory, list[bytes]]] = [(node, [])]
    try:
        yield node
        under_way[-1][1].extend(listing_of(ov, node).names)
        for count in itertools.count(1):
            if not count % FEW:
                yield None
            directory, names = under_way[-1]
            if names:
                child = yield from _bring(ov, directory, names.pop())
                if child is not None:
                    under_way.append((child, []))
                    yield child
                    under_way[-1][1].extend(listing_of(ov, child).names)
                continue
            for _ in _making_opaque(ov, directory):
                yield None
            under_way.pop()
            if not under_way:
                break
            ov.table.forget(directory.ino, 1)
    finally:
        for directory, _ in reversed(under_way[1:]):
            ov.table.forget(directory.ino, 1)
        node.lookups -= 1


def _bring(ov: Writable, parent: Directory, name: bytes) -> Generator[Step, None, Directory | None]:
    """Copy one name up. Returns it, with a lookup counted, if it is a directory that is to be flattened."""
    if name not in listing_of(ov, parent).names:
        return None  # gone since the last step
    child, _ = lookup(ov, parent, name)
    child.lookups += 1
    merged = None
    try:
        if isinstance(child, File):
            yield from _bring_file(ov, child, parent, name)
        elif isinstance(child, Directory):
            copy_up_directory(ov, child)
            merged = child if parts_of(ov, child).lowers else None
    finally:
        if merged is None:
            ov.table.forget(child.ino, 1)
    return merged


def _bring_file(ov: Writable, node: File, parent: Directory, name: bytes) -> Iterator[File]:
    """Copy one name of a file up; other names of a lower hard link stay where they are."""
    if node.extra is not None and (parent, name) in node.extra.aliases:
        promote(ov, node, parent, name)
    if needs_copy_up(node):
        if trail_of(ov, node) is None:
            yield node
        copy_up(ov, node, all_names=False, data=False)
    if lower_part(ov, parent, name) is not None:
        link_upper(ov, node, parent, name)
    if is_incomplete(ov, node) and not finds_data_anywhere(ov, node):
        yield node
        complete_in_place(ov, node)


def _making_opaque(ov: Writable, node: Directory) -> Iterator[None]:
    """Make a directory opaque, after all that it shows was copied up; then remove stepwise what hides nothing more."""
    if node.dead:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    part = copy_up_directory(ov, node)
    seal(ov, part, node)
    parts = parts_of(ov, node)
    for lower in parts.lowers:
        ov.handles.drop(lower)
    parts.lowers = []
    node.candidates = node.candidates[:1]
    names = listing_of(ov, node).cut_off(part)
    for start in range(0, len(names), FEW):
        if start:
            yield
        if not node.dead:
            _drop_whiteouts(ov.fd(part), listing_of(ov, node), names[start : start + FEW])


def emptying(ov: Writable, node: Directory) -> Iterator[None]:
    """Remove many whiteouts stepwise from a directory that is to be replaced, where it cannot be put aside whole."""
    if len(listing_of(ov, node).whiteouts) > FEW and node.upper() is not None and not can_put_aside(ov):
        yield from _making_opaque(ov, node)


def _drop_whiteouts(fd: int, listing: Listing, names: list[bytes]) -> None:
    """Remove the whiteouts that exist, and keep the directory's times: its merged content is the same."""
    before = os.fstat(fd)
    gone = [name for name in names if listing.whiteout_dropped(name)]
    dirs.insist(fd, lambda: _remove_whiteouts(fd, gone))
    if names:
        target.utime(fd, before.st_atime_ns, before.st_mtime_ns)


def _remove_whiteouts(fd: int, names: list[bytes]) -> None:
    for name in names:
        dirs.remove(fd, name)
        if has_file_form(name):
            dirs.remove(fd, WH + name)


def seal(ov: Writable, part: Part, node: Directory) -> None:
    """Mark a directory opaque at its share `part` in the upper, and keep its number."""
    fd = ov.fd(part)
    ov.upper.marks.set_opaque(dirs.held(fd), fd)
    ov.keep_number(dirs.held(fd), os.fstat(fd).st_ino, node.ino)
