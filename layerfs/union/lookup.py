"""From a name in a directory to its node, and from a node to what stat shows."""

import errno
import os

from layerfs.union import opened
from layerfs.union.inodes import Directory, File, Node
from layerfs.union.kept import kept_beside
from layerfs.union.layers import Part
from layerfs.union.readdir import listing_of, parts_of
from layerfs.union.shown import Shown
from layerfs.union.state import Attributes, Overlay
from layerfs.union.whiteout import NAME_MAX

_ABSENT = os.strerror(errno.ENOENT)  # asked for too often to be looked up each time


def lookup(ov: Overlay, parent: Directory, name: bytes) -> tuple[Node, Attributes]:
    """Find a name: its node (remembered, but without a lookup counted) and its attributes. ENOENT if absent."""
    listing = parent.listing
    if listing is None:
        listing = listing_of(ov, parent)
    where = listing.get(name)
    if where is None:
        if len(name) > NAME_MAX:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        raise FileNotFoundError(errno.ENOENT, _ABSENT)
    if type(where) is tuple:
        return _lookup_directory(ov, parent, name, where)
    place = (parent.parts or parts_of(ov, parent))[where]  # type: ignore[index]
    assert place is not None
    at = place.fd
    if at < 0:
        at = ov.fd(place)
    else:
        place.fresh = True
    st = place.tree.lstat(at, name)
    node = _file(ov, parent, name, place, st, at)
    if node.place is not place or ov.owners.identity is False:
        return node, attributes(ov, node)
    return node, st


def _file(ov: Overlay, parent: Directory, name: bytes, place: Part, st: Attributes, at: int) -> File:
    """Return the one node of this object: names that are hard links share it."""
    ino = ov.numbers.of(st.st_dev, st.st_ino) if place.tree.index else _upper_number(ov, place, at, name, st)
    node = ov.table.nodes.get(ino)
    if type(node) is File and _is_other(ov, node, parent, name, place, st):
        ino = ov.numbers.hashed(st.st_dev, st.st_ino)
        node = ov.table.nodes.get(ino)
    if node is None:
        node = ov.table.nodes[ino] = File(ino, parent, name, place, st.st_mode >> 12)
        parent.kids += 1
    elif type(node) is not File:
        node = File(ino, parent, name, place, st.st_mode >> 12)
        _add(ov, node)
    elif node.place is None:
        _revive(ov, node, parent, name, place)
    elif node.parent is not parent or node.name != name:
        _add_alias(ov, node, parent, name, place)
    elif node.place.tree.index and not place.tree.index:
        node.place = place
    return node


def _upper_number(ov: Overlay, place: Part, at: int, name: bytes, st: Attributes) -> int:
    return kept_beside(ov, at, st) or ov.number_of(place.tree, at, name, st)


def _is_other(ov: Overlay, node: File, parent: Directory, name: bytes, place: Part, st: Attributes) -> bool:
    """Tell whether a node bears an object's number by accident, one having been kept from a layer that is gone.

    A copy and its original share a number only as names of a lower hard link whose copy-up stopped half-way.
    """
    if (node.parent is parent and node.name == name) or node.place is None:
        return False
    if bool(node.place.tree.index) == bool(place.tree.index):
        return False
    return (st if place.tree.index else node.place.tree.lstat(ov.fd(node.place), node.name)).st_nlink < 2


def _add(ov: Overlay, node: File | Directory) -> None:
    """Put a node in the table; a former one that bore its number (unlinked, its file gone) makes room."""
    former = ov.table.nodes.get(node.ino)
    if former is not None:
        node.lookups = former.lookups
        if former.parent is not None:
            former.parent.kids -= 1
    ov.table.add(node)


def _revive(ov: Overlay, node: File, parent: Directory, name: bytes, place: Part) -> None:
    """Give a file that lost its last known name the one that it turns out to have.

    Pinned, it is the same file still.
    """
    ov.table.move(node, parent, name)
    node.place = place
    extra = node.opened()
    extra.orphan_of = None
    extra.unpin()


def _add_alias(ov: Overlay, node: File, parent: Directory, name: bytes, place: Part) -> None:
    """Note a further name of a node; the upper's copy is the one that counts."""
    extra = node.opened()
    if (parent, name) not in extra.aliases:
        extra.aliases[parent, name] = None
        parent.kids += 1
    if node.place is not None and node.place.tree.index and not place.tree.index:
        promote(ov, node, parent, name)


def promote(ov: Overlay, node: File, parent: Directory, name: bytes) -> None:
    """Make a further name of a node the one that it is reached by; the former one becomes a further name."""
    extra = node.opened()
    del extra.aliases[parent, name]
    if node.parent is not None:
        extra.aliases[node.parent, node.name] = None
    node.parent, node.name = parent, name
    where = listing_of(ov, parent).get(name)
    assert type(where) is int
    node.place = parts_of(ov, parent)[where]


def drop_name(ov: Overlay, node: File, parent: Directory, name: bytes) -> bool:
    """Take a name from a node; False if it was the last one known (the caller has pinned the file before)."""
    extra = node.extra
    if node.parent is not parent or node.name != name:
        if extra is not None and (parent, name) in extra.aliases:
            del extra.aliases[parent, name]
            parent.kids -= 1
            ov.table.reap(parent)
        return True
    if extra is not None and extra.aliases:
        promote(ov, node, *next(reversed(extra.aliases)))
        del extra.aliases[parent, name]
        parent.kids -= 1
        return True
    if node.place is not None and (node.lookups or extra is not None):
        node.opened().orphan_of = node.place.tree if node.place.tree.index else None
    node.place = None
    return False


def _lookup_directory(
    ov: Overlay, parent: Directory, name: bytes, where: tuple[int, ...]
) -> tuple[Directory, Attributes]:
    node = Directory(0, parent, name, where)
    if where[0] == 0:
        parts_of(ov, node)
        node.ino, st = _number_merged(ov, node)
    else:
        first = parts_of(ov, parent)[where[0]]
        assert first is not None
        st = first.tree.lstat(ov.fd(first), name)
        node.ino = ov.numbers.of(st.st_dev, st.st_ino)
    known = ov.table.nodes.get(node.ino)
    if type(known) is Directory and not known.dead and known.parent is parent and known.name == name:
        for part in node.parts or ():
            if part is not None:
                ov.handles.drop(part)
        plain = known.upper() is None and ov.owners.identity
        return known, _dress(ov, where, st) if plain else attributes(ov, known)
    _add(ov, node)
    return node, attributes(ov, node) if where[0] == 0 or not ov.owners.identity else _dress(ov, where, st)


def _dress(ov: Overlay, where: tuple[int, ...], st: Attributes) -> Attributes:
    """Show one link for a merged directory, as the kernel does: nobody counts its subdirectories."""
    return st if len(where) == 1 and not ov.options.static_nlink else Shown(st, nlink=1)


def _number_merged(ov: Overlay, node: Directory) -> tuple[int, Attributes]:
    """Return the number of a directory with a share in the upper: that of its first lower, if it has one."""
    parts = node.parts or []
    for part in parts[1:]:
        if part is not None:
            st = part.tree.stat_dir(ov.fd(part))
            return ov.numbers.of(st.st_dev, st.st_ino), st
    assert parts[0] is not None
    fd = ov.fd(parts[0])
    st = os.fstat(fd)
    return ov.kept_number(fd, st), st


def attributes(ov: Overlay, node: Node) -> Attributes:
    """Return what stat shows of a node; the numbers in st_ino and st_dev are the layer's own."""
    if type(node) is File:
        return _file_attributes(ov, node)
    assert isinstance(node, Directory)
    return _directory_attributes(ov, node)


def _file_attributes(ov: Overlay, node: File) -> Attributes:
    place = node.place
    if place is not None:
        at = ov.fd(place)
        st = place.tree.lstat(at, node.name)
        return st if ov.owners.identity else ov.owners.show(place.tree, place.tree.reach(at, node.name), st)
    extra = node.opened()
    handle = extra.anchor()
    st = opened.stat(handle)
    tree = extra.orphan_of or ov.trees[0]
    shown = st if ov.owners.identity or tree is None else ov.owners.show(tree, opened.ref(handle), st)
    return Shown(shown, nlink=0) if extra.orphan_of is not None else shown


def _directory_attributes(ov: Overlay, node: Directory) -> Attributes:
    parts = [part for part in parts_of(ov, node) if part is not None]
    top = parts[0]
    fd = ov.fd(top)
    st = top.tree.stat_dir(fd)
    shown = st if ov.owners.identity else ov.owners.show(top.tree, top.tree.reach_dir(fd), st)
    if node.dead:
        return Shown(shown, nlink=0)
    return shown if len(parts) == 1 and not ov.options.static_nlink else Shown(shown, nlink=1)
