"""Where a redirected directory continues in the layers below it (fs/overlayfs/namei.c: ovl_lookup)."""

import os
import stat
from collections.abc import Iterator

from layerfs.union.inodes import Directory
from layerfs.union.layers import Part, Tree
from layerfs.union.options import RedirectDir
from layerfs.union.state import Overlay
from layerfs.union.whiteout import WH


def targets(ov: Overlay, node: Directory, part: Part, redirect: bytes) -> Iterator[Part]:
    """Yield the parts below `part` that a redirect leads to, top first; what is absent in a layer is passed over.

    Absolute redirects start at the root of every lower layer, bare ones stay beside the directory in its parent's layers.
    """
    if ov.options.redirect_dir is RedirectDir.NOFOLLOW:
        return
    if redirect.startswith(b"/"):
        names = redirect[1:].split(b"/")
        starts = [Part(t, None, b"", t.root()) for t in ov.trees if t is not None and t.index > part.tree.index]
    else:
        names = [redirect]
        above = (node.parent.parts or ()) if node.parent is not None else ()
        starts = [p for p in above if p is not None and p.tree.index > part.tree.index]
    for start in starts:
        found, stop = _walk(ov, start, names)
        if found is not None:
            yield found
        if stop:
            return


def _walk(ov: Overlay, start: Part, names: list[bytes]) -> tuple[Part | None, bool]:
    """Walk down one layer; second: whether something there hides all layers below."""
    part = start
    for name in names:
        fd = ov.fd(part)
        st = _lstat(part.tree, fd, name)
        if st is None:
            return None, _lstat(part.tree, fd, WH + name) is not None
        if not stat.S_ISDIR(st.st_mode):
            return None, True
        part = Part(part.tree, part, name)
    return part, False


def _lstat(tree: Tree, at: int, name: bytes) -> os.stat_result | None:
    try:
        return tree.lstat(at, name)
    except FileNotFoundError:
        return None
