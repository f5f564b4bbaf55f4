"""Somebody who answers for files in the union's place, from what the union hands over.

Each number is answered for by the union or by the front, never by both: what the front has told the kernel of a file
becomes a node here as soon as anybody asks the union for that file (`adopt`), with all that the kernel holds of it. The
front is told of each change of a name before anything is answered that knows of it (union/listing.py), and of each
descriptor before it is closed (union/handles.py).
"""

import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from layerfs.union.inodes import Directory, File
from layerfs.union.layers import Part
from layerfs.union.shown import fingerprint_of

if TYPE_CHECKING:
    from layerfs.union.state import Overlay


class Known(NamedTuple):
    """What the kernel was told of a file, and holds: `lookups` of it, and `opens` of the descriptor `fd` (-1: none)."""

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


class Front(Protocol):
    """Who answers in the union's place."""

    def claim(self, number: int) -> None:
        """Answer for a number no more, as often as it is claimed."""

    def disclaim(self, number: int) -> None:
        """Take one claim back."""

    def take(self, number: int) -> Known | None:
        """Give up a file, its descriptor included; None for one that is not the front's."""

    def children(self, number: int) -> int:
        """Return how many files of a directory are the front's; the directory is reaped later if there are any."""

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
    parent = ov.table.nodes.get(known.parent)
    listing = parent.listing if isinstance(parent, Directory) else None
    part = listing.names.get(known.name) if listing is not None else None
    if not isinstance(part, Part) or not isinstance(parent, Directory):
        if known.fd >= 0:
            os.close(known.fd)
        return None
    node = File(number, parent, known.name, part, known.mode >> 12)
    node.seen = fingerprint_of(known.device, known.number, known.mode, known.uid, known.gid)
    node.lookups = known.lookups
    node.preloaded = known.stored
    ov.table.add(node)
    if known.opens:
        extra = node.opened()
        extra.opens, extra.data = known.opens, known.fd
        ov.files.add(node)
    return node
