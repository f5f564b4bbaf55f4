"""What of a directory can be answered without the union: which share of it has each name, if a stat says all there is.

An image's C knows each object by a reference (`layers.NativeSource`), which is handed over with the name. Left to the
union are the upper's files (their numbers may be kept in xattrs), and mounts where owners are translated or numbers are
kept short.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from layerfs.union.inodes import Directory
from layerfs.union.layers import DirTree, NativeSource, Part, Parts
from layerfs.union.listing import Listing, Whiteout, holder
from layerfs.union.shown import Attributes
from layerfs.union.state import INO_XATTR, Overlay, Writable

ASK: Final = 0x7FFFFFFF  # a place: only the union knows
DEVICES: Final = 1 << 64  # st_dev of the host; images have numbers of another kind
NO_REFERENCE: Final = (1 << 64) - 1
SUBDIRECTORY: Final = 0x40000000  # beside the index of a share: the name is a directory there


class InImage(NamedTuple):
    """Who answers for a part that is in an image, and the rank with which its numbers begin."""

    source: NativeSource
    rank: int


class Handed(NamedTuple):
    """The names of a directory in order and the place of each, an index into `parts`; `ranks` begin inode numbers.

    Where there are `held` parts, `references` has one for each name.
    """

    names: list[bytes]
    places: list[int]
    parts: list[Part]
    held: dict[Part, InImage]
    references: list[int]
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
    held = _held(parts, ranks)
    lowers = [part for part in parts.lowers if type(part.tree) is DirTree or part in held]
    index = {part: place for place, part in enumerate(lowers)}
    get = index.get
    places = [
        get(where, ASK) if type(where) is Part else _subdirectory(get(where[0], ASK))  # type: ignore[index]
        for where in listing.names.values()
    ]
    references = _references(listing, places, held) if held else []
    parent = node.ino if node.parent is None else node.parent.ino
    hosts = {device: rank for device, rank in ranks.items() if 0 <= device < DEVICES}
    top, shown = _top(node, parts)
    single = len(parts.all()) == 1 and not ov.options.static_nlink
    makes = takes_new(ov, listing)
    return Handed(list(listing.names), places, lowers, held, references, parent, hosts, top, shown, single, makes)


def _held(parts: Parts, ranks: Mapping[int, int]) -> dict[Part, InImage]:
    """Return who answers for the parts that are open in images."""
    found = {}
    for part in parts.lowers:
        if type(part.tree) is not DirTree and part.fd >= 0 and part.tree.device in ranks:
            if (source := part.tree.source()) is not None:
                found[part] = InImage(source, ranks[part.tree.device])
    return found


def _references(listing: Listing, places: list[int], held: Mapping[Part, InImage]) -> list[int]:
    """Return the references of all names; one that has none is left to the union."""
    names_of = {part: each.source.names(part.fd) for part, each in held.items()}
    references = [NO_REFERENCE] * len(places)
    for index, (name, where) in enumerate(listing.names.items()):
        known = names_of.get(holder(where))
        if known is None:
            continue
        references[index] = known.get(name, NO_REFERENCE)
        if references[index] == NO_REFERENCE:
            places[index] = ASK
    return references


class Changing(NamedTuple):
    """What a front needs to change files of the upper."""

    scratch: int  # the descriptor of the scratch directory
    number_xattr: str  # where a copy keeps the number that it shows; empty where the upper has no such xattrs
    volatile: bool  # copies need not be on disk
    ordered: bool  # a journal keeps the order: their data are enough
    static_links: bool  # a directory shows one link


def changing(ov: Writable) -> Changing:
    """Return what a front needs to change files."""
    marks = ov.upper.marks
    return Changing(
        ov.upper.work.fd,
        marks.prefix + INO_XATTR if marks.xattrs else "",
        ov.options.volatile,
        ov.upper.is_ordered,
        ov.options.static_nlink,
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
    if top.fd >= 0 and (top.is_upper or type(top.tree) is DirTree or top.tree.source() is not None):
        shown = top.tree.stat_dir(top.fd)
        if node.is_seen(shown):
            return top, shown
    return None, None


def _subdirectory(place: int) -> int:
    return place if place == ASK else place | SUBDIRECTORY
