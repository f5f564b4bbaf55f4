"""Lower hard links: all visible names of one lower file, so that a copy-up keeps them one file.

Nothing on disk leads from an inode to its names, so the first copy-up of a lower hard link walks the merged tree once
and notes every name of every such file (as merged paths; a renamed directory moves them along). The kernel answers this
with an index that only itself can read; links made in the upper are read by everyone.
"""

from layerfs.union.inodes import Directory, File
from layerfs.union.layers import Part
from layerfs.union.lookup import lookup, lookup_directory
from layerfs.union.readdir import listing_of
from layerfs.union.state import Overlay

Names = dict[int, list[bytes]]


def other_names(ov: Overlay, node: File) -> list[tuple[Directory, bytes]]:
    """Return the names of a lower file besides the node's own, each verified to be this very file."""
    if ov.links is None:
        ov.links = _collect(ov)
    found = []
    for path in ov.links.pop(node.ino, []):
        parent, name = _find_parent(ov, path)
        if parent is None:
            continue
        where = listing_of(ov, parent).names.get(name)
        if isinstance(where, Part) and where.tree.index and (parent is not node.parent or name != node.name):
            other, _ = lookup(ov, parent, name)
            if other is node:
                found.append((parent, name))
            else:
                ov.table.reap(other)
        ov.table.reap(parent)
    return found


def moved(ov: Overlay, moves: dict[bytes, bytes]) -> None:
    """Move the noted names along with renamed directories, all at once; paths begin with a slash."""
    for paths in (ov.links or {}).values():
        for index, path in enumerate(paths):
            for old, new in moves.items():
                if path.startswith(old + b"/"):
                    paths[index] = new + path[len(old) :]
                    break


def path_of_node(node: Directory) -> bytes:
    """Return a directory's merged path; empty for the root."""
    names = []
    step: Directory | None = node
    while step is not None and step.parent is not None:
        names.append(b"/" + step.name)
        step = step.parent
    return b"".join(reversed(names))


def _collect(ov: Overlay) -> Names:
    found: Names = {}
    pending: list[tuple[Directory, bytes]] = [(ov.root, b"")]
    ov.root.lookups += 1
    try:
        while pending:
            node, path = pending.pop()
            try:
                _collect_one(ov, node, path, found, pending)
            finally:
                ov.table.forget(node.ino, 1)
    finally:
        for node, _ in pending:
            ov.table.forget(node.ino, 1)
    return {ino: paths for ino, paths in found.items() if len(paths) > 1}


def _collect_one(
    ov: Overlay, node: Directory, path: bytes, found: Names, pending: list[tuple[Directory, bytes]]
) -> None:
    """Note the hard links in one directory, and hold its subdirectories until their turn comes."""
    try:
        listing = listing_of(ov, node)
    except PermissionError:
        return  # what we may not read, nobody reads through us
    for name, where in list(listing.names.items()):
        if isinstance(where, tuple):
            child = lookup_directory(ov, node, name)
            child.lookups += 1
            pending.append((child, path + b"/" + name))
        elif where.tree.index:
            st = where.tree.lstat(ov.fd(where), name)
            if st.st_nlink > 1:
                found.setdefault(ov.numbers.of(st.st_dev, st.st_ino), []).append(path + b"/" + name)


def _find_parent(ov: Overlay, path: bytes) -> tuple[Directory | None, bytes]:
    *names, last = path[1:].split(b"/")
    node = ov.root
    for name in names:
        if not isinstance(listing_of(ov, node).names.get(name), tuple):
            ov.table.reap(node)
            return None, last
        node = lookup_directory(ov, node, name)
    return node, last
