"""What of a directory can be answered without the union: which share of it has each name, if a stat says all there is.

Left to the union are the upper's files (their numbers may be kept in xattrs), images, and mounts where owners are
translated or numbers are kept short.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from layerfs.union.inodes import Directory
from layerfs.union.layers import DirTree, Part, Parts
from layerfs.union.listing import Listing, Whiteout
from layerfs.union.shown import Attributes
from layerfs.union.state import INO_XATTR, Overlay, Writable

ASK: Final = 0x7FFFFFFF  # a place: only the union knows
DEVICES: Final = 1 << 64  # st_dev of the host; images have numbers of another kind
SUBDIRECTORY: Final = 0x40000000  # beside the index of a share: the name is a directory there


class Handed(NamedTuple):
    """The names of a directory in order and the place of each, an index into `parts`; `ranks` begin inode numbers."""

    names: list[bytes]
    places: list[int]
    parts: list[Part]
    parent: int
    ranks: Mapping[int, int]
    top: Part | None  # the share whose attributes the directory shows, as `shown`; None where they are not to be handed
    shown: Attributes | None
    single: bool  # it shows as many links as its share has
    makes: bool  # what is absent is free in the upper's share, once there is any, or has a whiteout at the very name


def handed(ov: Overlay, node: Directory) -> Handed | None:
    """Return what can be said of a directory; None if that is nothing."""
    listing, parts, ranks = node.listing, node.parts, ov.numbers.ranks()
    if listing is None or parts is None or node.dead or ranks is None or not ov.owners.identity or ov.options.metacopy:
        return None
    lowers = [part for part in parts.lowers if type(part.tree) is DirTree]
    index = {part: place for place, part in enumerate(lowers)}
    get = index.get
    places = [
        get(where, ASK) if type(where) is Part else _subdirectory(get(where[0], ASK))  # type: ignore[index]
        for where in listing.names.values()
    ]
    parent = node.ino if node.parent is None else node.parent.ino
    hosts = {device: rank for device, rank in ranks.items() if 0 <= device < DEVICES}
    top, shown = _top(node, parts)
    single = len(parts.all()) == 1 and not ov.options.static_nlink
    return Handed(list(listing.names), places, lowers, parent, hosts, top, shown, single, takes_new(ov, listing))


class Changing(NamedTuple):
    """What a front needs to change files of the upper."""

    scratch: int  # the descriptor of the scratch directory
    number_xattr: str  # where a copy keeps the number that it shows; empty where the upper has no such xattrs
    volatile: bool  # copies need not be on disk
    ordered: bool  # a journal keeps the order: their data are enough


def changing(ov: Writable) -> Changing:
    """Return what a front needs to change files."""
    marks = ov.upper.marks
    return Changing(
        ov.upper.work.fd, marks.prefix + INO_XATTR if marks.xattrs else "", ov.options.volatile, ov.upper.is_ordered
    )


def takes_new(ov: Overlay, listing: Listing) -> bool:
    """Tell whether a new file comes out right if it is made at an absent name of the upper by who serves, for itself.

    There may be no whiteouts beside names, which nothing at the name itself tells of, and ACLs must be inherited.
    """
    if ov.upper is None or not ov.options.acl or not ov.upper.marks.devices or ov.owners.override is not None:
        return False
    return Whiteout.BESIDE not in listing.whiteouts.values()


def _top(node: Directory, parts: Parts) -> tuple[Part | None, Attributes | None]:
    """Return the share whose attributes a directory shows, and what they are, if it is open and as it is known."""
    top = parts.top
    if top.fd >= 0 and (top.is_upper or type(top.tree) is DirTree):
        shown = top.tree.stat_dir(top.fd)
        if node.is_seen(shown):
            return top, shown
    return None, None


def _subdirectory(place: int) -> int:
    return place if place == ASK else place | SUBDIRECTORY
