"""Where a redirected directory continues in the layers below it (fs/overlayfs/namei.c: ovl_lookup).

A trail is what is to be found there: absolute, from the root of each lower layer on, or bare, beside the directory.
What lies on the way counts in each layer: a directory on it may be opaque, or redirected itself, which bends the
trail.
"""

import stat
from collections.abc import Iterator

from layerfs.union.inodes import Directory
from layerfs.union.layers import Part, Tree
from layerfs.union.options import RedirectDir
from layerfs.union.state import Attributes, Overlay
from layerfs.union.whiteout import OPAQUE_FILES, WH


def targets(ov: Overlay, parent: Directory | None, part: Part, redirect: bytes) -> Iterator[Part]:
    """Yield the parts below `part` that its redirect leads to, top first, down to the first that is opaque.

    `parent` is where bare redirects stay; an absent share is passed over. Each part is to be opened before the next.
    """
    if ov.options.redirect_dir is RedirectDir.NOFOLLOW:
        return
    trail, above = redirect, part.tree.index
    while (start := _next_start(ov, parent, trail, above)) is not None:
        above = start.tree.index
        found, trail, stop = _walk(ov, start, trail)
        if found is not None:
            try:
                yield found
            finally:
                _close_between(ov, start, found)
        if stop:
            return


def lower_path(ov: Overlay, node: Directory) -> bytes:
    """Return the absolute path of a directory in its merged lowers, as a redirect names it (ovl_get_redirect)."""
    names = []
    step: Directory | None = node
    while step is not None and step.parent is not None:
        upper = step.upper()
        redirect = upper.tree.marks(ov.fd(upper)).redirect if upper is not None else None
        names.append((redirect or step.name).lstrip(b"/"))
        if redirect is not None and redirect.startswith(b"/"):
            break
        step = step.parent
    return b"/" + b"/".join(reversed(names))


def _next_start(ov: Overlay, parent: Directory | None, trail: bytes, above: int) -> Part | None:
    """Return where a trail begins in the next layer below the one of index `above`."""
    if trail.startswith(b"/"):
        return next((Part(tree, None, b"", tree.root()) for tree in ov.lowers[above:]), None)
    beside = parent.parts.lowers if parent is not None and parent.parts is not None else []
    return next((part for part in beside if part.tree.index > above), None)


def _walk(ov: Overlay, start: Part, trail: bytes) -> tuple[Part | None, bytes, bool]:
    """Walk a trail in one layer: what was found, the trail for the layers below, and whether they are hidden."""
    absolute = trail.startswith(b"/")
    done: list[bytes] = []
    todo = trail.lstrip(b"/").split(b"/")
    part, stop, found = start, False, True
    while todo and found:
        name = todo.pop(0)
        done.append(name)
        step, hidden = _step(ov, part, name)
        stop = stop or hidden
        if step is None:
            found = False
            _close_between(ov, start, Part(part.tree, part, name))
            continue
        part = step
        redirect = None if hidden else part.tree.marks(ov.fd(part)).redirect
        if redirect is not None and redirect.startswith(b"/"):
            absolute, stop = True, False
            done = redirect[1:].split(b"/")
        elif redirect is not None:
            done[-1] = redirect
    return part if found else None, (b"/" if absolute else b"") + b"/".join(done + todo), stop


def _step(ov: Overlay, part: Part, name: bytes) -> tuple[Part | None, bool]:
    """Enter a directory of one layer; second: whether this layer hides what those below have there."""
    fd = ov.fd(part)
    st = _lstat(part.tree, fd, name)
    if st is None:
        return None, _lstat(part.tree, fd, WH + name) is not None
    if not stat.S_ISDIR(st.st_mode):
        return None, True
    found = Part(part.tree, part, name)
    fd = ov.fd(found)
    opaque = part.tree.marks(fd).opaque or any(_lstat(part.tree, fd, mark) is not None for mark in OPAQUE_FILES)
    return found, opaque


def _close_between(ov: Overlay, start: Part, found: Part) -> None:
    """Close what was only passed through: no node will ever ask for it."""
    step = found.parent
    while step is not None and step is not start:
        ov.handles.drop(step)
        step = step.parent


def _lstat(tree: Tree, at: int, name: bytes) -> Attributes | None:
    try:
        return tree.lstat(at, name)
    except FileNotFoundError:
        return None
