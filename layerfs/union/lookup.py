"""From a name in a directory to its node, and from a node to what stat shows."""

import errno
import os
from collections.abc import Sequence

from layerfs.union import opened
from layerfs.union.escape import with_device
from layerfs.union.hardlinks import IndexedCopy
from layerfs.union.inodes import Directory, File, Node
from layerfs.union.kept_numbers import kept_beside
from layerfs.union.layers import Part, Parts
from layerfs.union.orphans import anchor
from layerfs.union.readdir import listing_of, parts_of
from layerfs.union.shown import Shown, fingerprint, has_holes
from layerfs.union.state import Attributes, Overlay
from layerfs.union.whiteout import NAME_MAX

_ABSENT = os.strerror(errno.ENOENT)  # asked for too often to be looked up each time


def lookup(ov: Overlay, parent: Directory, name: bytes) -> tuple[Node, Attributes]:
    """Find a name: its node (remembered, but without a lookup counted) and its attributes. ENOENT if absent."""
    listing = parent.listing
    if listing is None:
        listing = listing_of(ov, parent)
    where = listing.names.get(name)
    if where is None:
        raise _absent(name)
    if isinstance(where, tuple):
        return _lookup_directory(ov, parent, name, where)
    at = where.fd
    if at < 0:
        at = ov.fd(where)
    else:
        where.fresh = True
    st = where.tree.lstat(at, name)
    node = _file(ov, parent, name, where, st, at)
    plain = st.st_size and ((where.tree.index and not ov.options.metacopy) or not has_holes(st))
    if node.part is where and ov.owners.identity and plain and (st.st_nlink == 1 or ov.upper is None):
        return node, st
    return node, attributes(ov, node)


def _absent(name: bytes) -> OSError:
    if len(name) > NAME_MAX:
        return OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    return FileNotFoundError(errno.ENOENT, _ABSENT)


def node_at(ov: Overlay, parent: Directory, name: bytes) -> Node:
    """Find the node of a name as `lookup` does, without its attributes."""
    where = listing_of(ov, parent).names.get(name)
    if not isinstance(where, Part):
        return lookup(ov, parent, name)[0]
    at = ov.fd(where)
    return _file(ov, parent, name, where, where.tree.lstat(at, name), at)


def lookup_directory(ov: Overlay, parent: Directory, name: bytes) -> Directory:
    """Find a name that is a directory; ENOTDIR for anything else."""
    node, _ = lookup(ov, parent, name)
    if isinstance(node, Directory):
        return node
    ov.table.reap(node)
    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def _file(ov: Overlay, parent: Directory, name: bytes, part: Part, st: Attributes, at: int) -> File:
    """Return the one node of this object: names that are hard links share it."""
    listed = part
    own, part = _object_at(ov, parent, name, listed, st)
    node = ov.table.of_object(own)
    if not isinstance(node, File) or node.kind != st.st_mode >> 12:  # an inode number that is used again
        node = _new_file(ov, parent, name, part, st, at, own)
    elif node.part is None:
        _revive(ov, node, parent, name, part)
    elif node.parent is not parent or node.name != name:
        _add_alias(ov, node, parent, name, part)
    elif node.part.tree.index and part.is_upper:
        node.part = part
    node.seen = fingerprint(st)
    if part is not listed and isinstance(part.tree, IndexedCopy):
        node.opened().incomplete = True
    return node


def _object_at(ov: Overlay, parent: Directory, name: bytes, part: Part, st: Attributes) -> tuple[int, Part]:
    """Return the object's own number, and where it is: a lower hard link may be at its copy, by the index."""
    number = ov.numbers.of(st.st_dev, st.st_ino)
    if st.st_nlink < 2 or part.is_upper or ov.upper is None:
        return number, part
    if not ov.upper.links.works:
        return ov.numbers.named(parent.ino, name), part
    copy = ov.upper.links.copy_of(number, st)
    if copy is None:
        return number, part
    at = copy.tree.lstat(copy.fd, name)
    return ov.numbers.of(at.st_dev, at.st_ino), copy


def _new_file(ov: Overlay, parent: Directory, name: bytes, part: Part, st: Attributes, at: int, own: int) -> File:
    ino = own
    if isinstance(part.tree, IndexedCopy):
        ino = ov.numbers.of(st.st_dev, st.st_ino)
    elif part.is_upper:
        ino = _upper_number(ov, part, at, name, st)
    if (known := ov.table.find(ino)) is not None:
        if isinstance(known, File) and known.own == own:
            return known  # a copy that the front made, and knew by its number alone
        ino = ov.table.free_number(own, ov.numbers.hashed(st.st_dev, st.st_ino))
    node = File(ino, parent, name, part, st.st_mode >> 12)
    if ino != own:
        node.own = own
    ov.table.add(node)
    return node


def _upper_number(ov: Overlay, part: Part, at: int, name: bytes, st: Attributes) -> int:
    number = ov.upper.links.number_of(st.st_ino) if ov.upper is not None else None
    return number or kept_beside(ov, at, st) or ov.number_of(part.tree, at, name, st)


def _revive(ov: Overlay, node: File, parent: Directory, name: bytes, part: Part) -> None:
    """Give a file without a known name the name at which it was found.

    Pinned, it is the same file still.
    """
    ov.table.move(node, parent, name)
    node.part = part
    extra = node.opened()
    extra.unnamed_in, extra.linkable = None, False
    extra.unpin()
    extra.forget_kept()
    ov.files.let_go(node)


def _add_alias(ov: Overlay, node: File, parent: Directory, name: bytes, part: Part) -> None:
    """Note a further name of a node; the upper's copy is the one that counts."""
    extra = node.opened()
    if (parent, name) not in extra.aliases:
        if _is_exchanged(ov, node, part):
            ov.table.move(node, parent, name)
            node.part = part
            return
        extra.aliases[parent, name] = None
        parent.children += 1
    if node.part is not None and _rank(part) < _rank(node.part):
        promote(ov, node, parent, name)


def _rank(part: Part) -> int:
    """Rank where a file is reached: a name in the upper, its copy in the index, a lower."""
    return 2 if part.tree.index else int(isinstance(part.tree, IndexedCopy))


def _is_exchanged(ov: Overlay, node: File, part: Part) -> bool:
    """Tell whether another program gave a file's name in the layer of `part` to something else."""
    if node.part is None or node.part.tree is not part.tree or node.parent is None:
        return False
    try:
        st = part.tree.lstat(ov.fd(node.part), node.name)
    except OSError:
        return True
    return not _is_same(ov, node, st)


def _is_same(ov: Overlay, node: File, st: Attributes) -> bool:
    """Tell whether a file is the one that a node stands for, by its device and inode."""
    if ov.numbers.of(st.st_dev, st.st_ino) == (node.own or node.ino):
        return True
    # Names of one lower file that are files of their own, where an upper has no hard links.
    own = node.part is not None and node.part.tree.index and st.st_nlink > 1
    return bool(own) and ov.upper is not None and not ov.upper.links.works


def promote(ov: Overlay, node: File, parent: Directory, name: bytes) -> None:
    """Make a further name of a node the one that it is reached by; the former one becomes a further name."""
    extra = node.opened()
    del extra.aliases[parent, name]
    if node.parent is not None:
        extra.aliases[node.parent, node.name] = None
    node.parent, node.name = parent, name
    where = listing_of(ov, parent).names.get(name)
    part = where if isinstance(where, Part) else None
    if part is not None and part.tree.index and ov.upper is not None:  # a hard link: its copy may be in the index
        own, part = _object_at(ov, parent, name, part, part.tree.lstat(ov.fd(part), name))
        ov.table.owns(node, own)
    node.part = part


def drop_name(ov: Overlay, node: File, parent: Directory, name: bytes) -> bool:
    """Take a name from a node; False if it was the last one known (the caller has pinned the file before)."""
    extra = node.extra
    if node.parent is not parent or node.name != name:
        if extra is not None and (parent, name) in extra.aliases:
            del extra.aliases[parent, name]
            parent.children -= 1
            ov.table.reap(parent)
        return True
    if extra is not None and extra.aliases:
        promote(ov, node, *next(reversed(extra.aliases)))
        del extra.aliases[parent, name]
        parent.children -= 1
        return True
    if node.part is not None and (node.lookups or extra is not None):
        node.opened().unnamed_in = node.part.tree
    node.part = None
    return False


def _lookup_directory(
    ov: Overlay, parent: Directory, name: bytes, where: tuple[Part, ...]
) -> tuple[Directory, Attributes]:
    node = Directory(0, parent, name, where)
    first = where[0]
    if first.is_upper:
        node.ino, st = _number_merged(ov, parts_of(ov, node))
    else:
        st = first.tree.lstat(ov.fd(first), name)
        node.ino = ov.numbers.of(st.st_dev, st.st_ino)
    node.seen = fingerprint(st)
    own = ov.numbers.of(st.st_dev, st.st_ino)
    known = _known_directory(ov, node, own)
    if known is not None:
        if node.parts is not None:
            for part in node.parts.all():
                ov.handles.drop(part)
        note_shown(known, st)
        plain = known.upper() is None and ov.owners.identity
        return known, _with_link_count(ov, where, st) if plain else attributes(ov, known)
    if ov.table.find(node.ino) is not None:
        node.ino = ov.table.free_number(own, ov.numbers.hashed(st.st_dev, st.st_ino))
    if node.ino != own:
        node.own = own
    ov.table.add(node)
    if first.is_upper or not ov.owners.identity:
        return node, attributes(ov, node)
    return node, _with_link_count(ov, where, st)


def _known_directory(ov: Overlay, node: Directory, own: int) -> Directory | None:
    """Return the node that a directory has already: at this name, and of this very object (its topmost share)."""
    known = ov.table.of_object(own)
    if type(known) is Directory and not known.dead and known.parent is node.parent and known.name == node.name:
        return known
    return None


def _with_link_count(ov: Overlay, parts: Sequence[Part], st: Attributes) -> Attributes:
    """Show one link for a merged directory, as the kernel does: nobody counts its subdirectories."""
    return st if len(parts) == 1 and not ov.options.static_nlink else Shown(st, nlink=1)


def _number_merged(ov: Overlay, parts: Parts) -> tuple[int, Attributes]:
    """Return the number of a directory with a share in the upper: that of its first lower, if it has one.

    Second: what stat says of its share in the upper.
    """
    fd = ov.fd(parts.top)
    top = os.fstat(fd)
    if parts.lowers:
        first = parts.lowers[0]
        st = first.tree.stat_dir(ov.fd(first))
        return ov.numbers.of(st.st_dev, st.st_ino), top
    return ov.kept_number(fd, top), top


def note_shown(node: Node, st: Attributes) -> None:
    """Note what the kernel knows of an object from now on: its name must lead to just this."""
    node.seen = fingerprint(st)
    if isinstance(node, Directory) and node.parts is not None and node.parts.top.can_change:
        node.parts.top.seen = node.seen


def attributes(ov: Overlay, node: Node) -> Attributes:
    """Return what stat shows of a node; the numbers in st_ino and st_dev are the layer's own."""
    if isinstance(node, File):
        return _file_attributes(ov, node)
    if isinstance(node, Directory):
        return _directory_attributes(ov, node)
    raise TypeError(node)


def _file_attributes(ov: Overlay, node: File) -> Attributes:
    part = node.part
    if part is not None:
        at = ov.fd(part)
        st = part.tree.lstat(at, node.name)
        if not _is_same(ov, node, st):  # the name was given to another file
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), node.name)
        node.seen = fingerprint(st)
        shown = st if ov.owners.identity else ov.owners.show(part.tree, part.tree.reach(at, node.name), st)
        if not st.st_size:
            shown = with_device(part.tree, part.tree.reach(at, node.name), st, shown)
        elif has_holes(st) and node.is_regular and (part.is_upper or ov.options.metacopy):
            from layerfs.union.metacopy import with_blocks  # readers of plain layers do without it

            shown = with_blocks(ov, part, part.tree.reach(at, node.name), shown)
        return shown if ov.upper is None else ov.upper.links.counted(shown, node.ino if part.tree.index else None)
    handle = anchor(ov, node)
    st = opened.stat(handle)
    shown = st if ov.owners.identity else ov.owners.show(node.tree, opened.ref(handle), st)
    if node.tree.index:
        return Shown(shown, nlink=0 if ov.upper is None else ov.upper.links.left(node.ino, st))
    if node.opened().is_held_by_name:
        return Shown(shown, nlink=shown.st_nlink - 1)  # the name that keeps it is ours
    return shown if ov.upper is None else ov.upper.links.counted(shown)


def _directory_attributes(ov: Overlay, node: Directory) -> Attributes:
    if node.remains is not None:
        return Shown(node.remains, nlink=0)
    parts = parts_of(ov, node)
    top = parts.top
    fd = ov.fd(top)
    st = top.tree.stat_dir(fd)
    note_shown(node, st)
    shown = st if ov.owners.identity else ov.owners.show(top.tree, top.tree.reach_dir(fd), st)
    if node.dead:
        return Shown(shown, nlink=0)
    return _with_link_count(ov, parts.all(), shown)
