"""The front: somebody who answers for files in the union's place (the lane), from what the union hands over.

Each number is answered for by the union or by the front, never by both: what the front has told the kernel of a file
becomes a node here as soon as anybody asks the union for that file (`adopt`), with all that the kernel holds of it, and
goes back when it is closed, as the kernel knows it (`surrender`). The front is told of each change of a name before
anything is answered that depends on it (union/listing.py), and of each descriptor before it is closed
(union/handles.py).
"""

import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from layerfs.union.inodes import Directory, File
from layerfs.union.layers import DirTree, Part, Parts
from layerfs.union.listing import Edit, Listing, Whiteout
from layerfs.union.shown import Attributes, fingerprint, fingerprint_of

if TYPE_CHECKING:
    from layerfs.union.state import Overlay


UPPER = 2  # in `Known.gone`


class Known(NamedTuple):
    """What the kernel was told of a file, and holds: `lookups`, and `opens` of the descriptor `fd` (-1: none yet).

    The lane has the same fields (`Taken`): neither room knows the other, and fuse/tables.py translates.
    """

    parent: int
    name: bytes
    lookups: int
    device: int
    number: int
    mode: int
    uid: int
    gid: int
    opens: int
    fd: int
    stored: bool  # its data were put into the page cache
    written: bool = False  # `fd` is open for writing, too
    gone: int = 0  # `fd` holds on to a file that has no name any more: 1 a lower's, 2 the upper's


class Front(Protocol):
    """Who answers in the union's place."""

    def claim(self, number: int) -> None:
        """Answer for a number no more, until each claim is taken back."""

    def disclaim(self, number: int) -> None:
        """Take one claim back."""

    def take(self, number: int) -> Known | None:
        """Give up a file, its descriptor included; None for one that is not the front's."""

    def give(self, known: Known) -> bool:
        """Answer again for a file that is not open; False where that cannot be."""

    def children(self, number: int) -> int:
        """Return how many files of a directory are the front's; the directory is reaped later if there are any."""

    def top(self, number: int, part: Part, shown: Attributes, *, makes: bool) -> None:
        """Note that a directory shows the attributes of another share from now on, and one link.

        With `makes` the front may make new files in it, and more; it tells of each (`take_in`).
        """

    def share(self, part: Part, fd: int) -> None:
        """Note that a share of a directory has another descriptor, or none (-1)."""

    def drop(self, number: int) -> None:
        """Forget what a directory holds."""


def adopt(ov: "Overlay", number: int) -> File | None:
    """Make a node of a file that the front answered for; None if it did not, or if the file is not to be found."""
    front = ov.table.front
    known = front.take(number) if front is not None else None
    if known is None:
        return None
    if known.gone:
        return _adopt_unnamed(ov, number, known)
    parent = ov.table.nodes.get(known.parent)
    listing = parent.listing if isinstance(parent, Directory) else None
    part = listing.names.get(known.name) if listing is not None else None
    if not isinstance(part, Part) or not isinstance(parent, Directory):
        if known.fd >= 0:
            os.close(known.fd)
        return None
    node = File(number, parent, known.name, part, known.mode >> 12)
    node.seen = fingerprint_of(known.device, known.number, known.mode, known.uid, known.gid)
    own = ov.numbers.of(known.device, known.number)
    node.own = 0 if own == number else own
    node.lookups = known.lookups
    node.preloaded = known.stored
    ov.table.add(node)
    if known.opens:
        extra = node.opened()
        extra.opens = known.opens
        if known.fd >= 0:
            extra.data = known.fd
            extra.writable = extra.written = known.written
            ov.files.add(node)
    return node


def _adopt_unnamed(ov: "Overlay", number: int, known: Known) -> File | None:
    """Make a node of a file whose name the front has removed, and that is held on to."""
    parent = ov.table.nodes.get(known.parent)
    trees = ov.trees[:1] if known.gone == UPPER else ov.lowers
    tree = next((tree for tree in trees if type(tree) is DirTree and tree.device == known.device), None)
    if tree is None or not isinstance(parent, Directory):
        os.close(known.fd)
        return None
    node = File.unnamed(number, parent, known.mode >> 12)
    node.seen = fingerprint_of(known.device, known.number, known.mode, known.uid, known.gid)
    node.lookups = known.lookups
    extra = node.opened()
    extra.pinned, extra.unnamed_in = known.fd, tree
    ov.table.add(node)
    ov.files.hold(node)
    return node


def take_in(ov: "Overlay", directory: int, name: bytes, edit: Edit, number: int, *, hidden: bool) -> None:
    """Take in what the front has done at a name of the upper's share of a directory, with the file of this number.

    `hidden` says that a removed name has a whiteout now.
    """
    node = ov.table.nodes.get(directory)
    part = node.upper() if isinstance(node, Directory) else None
    if not isinstance(node, Directory) or node.listing is None or part is None:
        return
    listing = node.listing
    watch, listing.watch = listing.watch, None  # it knows
    try:
        if edit is Edit.MADE:
            listing.made(name, part, is_dir=False)
        elif edit is Edit.COPIED_UP:
            listing.copied_up(name, part)
        else:
            listing.keep_order()
            listing.removed(name, shadowed=hidden)
            if hidden:
                listing.whiteout_made(name, Whiteout.AT_NAME)
    finally:
        listing.watch = watch
    if edit is Edit.COPIED_UP:
        ov.changed(number)
        ov.changed(directory)


def take_in_directory(
    ov: "Overlay", directory: int, name: bytes, number: int, fd: int, seen: int
) -> tuple[Listing, Part] | None:
    """Take in a directory that the front has made at a free name of the upper's share of a directory.

    The kernel knows it by this number, and `fd` is a descriptor of it, which is the union's from now on; -1 if the
    kernel was not told. `seen` is its fingerprint. Returns its listing and its share, which are the front's, too; None
    if there is no node of it.
    """
    parent = ov.table.nodes.get(directory)
    above = parent.upper() if isinstance(parent, Directory) else None
    if not isinstance(parent, Directory) or parent.listing is None or above is None:
        if fd >= 0:
            os.close(fd)
        return None
    listing = parent.listing
    watch, listing.watch = listing.watch, None  # it knows
    try:
        listing.made(name, above, is_dir=True)
    finally:
        listing.watch = watch
    above.fresh = True
    if fd < 0:
        return None
    node = Directory(number, parent, name, (above,))
    part = Part(above.tree, above, name)
    part.seen = node.seen = seen
    node.parts, node.listing = Parts(upper=part), Listing({})
    node.lookups = 1
    ov.table.add(node)
    ov.handles.keep(part, fd)
    return node.listing, part


def take_in_owner(ov: "Overlay", directory: int, seen: int) -> None:
    """Take in the owner and mode, by their fingerprint, that the front has given a directory's share of the upper."""
    node = ov.table.nodes.get(directory)
    if isinstance(node, Directory):
        node.seen = seen
        if node.parts is not None and node.parts.top.can_change:
            node.parts.top.seen = seen


def surrender(ov: "Overlay", number: int) -> None:
    """Give a file back to the front, if a stat says all there is of it, and it is as the kernel knows it.

    Nobody may have its node in hand. Of the upper's files the front takes back only those that it has made itself.
    """
    front, node = ov.table.front, ov.table.nodes.get(number)
    if front is None or type(node) is not File or node.extra is not None or node.own or not node.lookups:
        return
    part, parent = node.part, node.parent
    if part is None or parent is None or part.handed is None or not node.is_regular:
        return
    try:
        st = part.tree.lstat(ov.fd(part), node.name)
    except OSError:
        return
    if not st.st_size or st.st_nlink != 1 or fingerprint(st) != node.seen:
        return
    owner = st.st_mode, st.st_uid, st.st_gid
    known = Known(parent.ino, node.name, node.lookups, st.st_dev, st.st_ino, *owner, 0, -1, node.preloaded)
    ov.table.give_up(node, lambda: front.give(known))
