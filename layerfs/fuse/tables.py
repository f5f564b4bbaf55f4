"""What the lane (layerfs/lane) is told of a union: directories as they are loaded, and each edit of their names.

The union's words (union/front.py) become the lane's here. The lane gives a name the cookie that the union gives it
(union/listing.py), so one may go on with a listing that the other has begun.
"""

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Final

from layerfs.fuse.prefetch_attributes import WINDOW
from layerfs.lane.events import Durable, Edited, LaneEdit
from layerfs.lane.lane import ASK, DIRECTORY, GONE, GONE_UPPER, Lane, SourceCalls, Taken
from layerfs.union import front, handed
from layerfs.union.front import Known
from layerfs.union.inodes import Directory
from layerfs.union.layers import Part, Tree
from layerfs.union.listing import Edit, Listing
from layerfs.union.shown import Attributes, fingerprint_of
from layerfs.union.union import Union

_EDITS: Final = {
    LaneEdit.MADE: Edit.MADE, LaneEdit.COPIED: Edit.COPIED_UP, LaneEdit.REMOVED: Edit.REMOVED,
    LaneEdit.HIDDEN: Edit.REMOVED,
}  # fmt: skip
assert (handed.ASK, handed.SUBDIRECTORY, front.UPPER) == (ASK, DIRECTORY, GONE_UPPER)


class _Directory:
    """A directory that the lane has, or was offered in vain."""

    __slots__ = ("listing", "parts", "relisted")

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.parts: list[Part] = []  # by their index, the upper's last
        self.relisted = False

    @property
    def is_handed(self) -> bool:
        """Whether the lane has it."""
        return self.listing.watch is not None


class Tables:
    """The front of one union: a lane with what it was handed."""

    def __init__(self, union: Union, lane: Lane, fetch: Callable[[Directory, list[bytes]], None]) -> None:
        """Hand `lane` what it can answer; `fetch` has names of a directory looked at ahead."""
        self.lane = lane
        self._union = union
        self._fetch = fetch
        self._known: dict[int, _Directory] = {}
        self._ranks = 0
        self._sources: dict[Tree, int] = {}  # what stands for each image among shares
        self._devices: dict[int, int] = {}  # of images, by what the lane calls them
        self._surrender = union.answer_with(self)
        union.leave_to_front(lane.files)
        lane.closing = self.close
        lane.edited = self._take_in

    def close(self) -> None:
        """Let nobody answer from the lane any more."""
        self._union.answer_with(None)
        for number in list(self._known):
            self._forget(number)

    def change_files(self) -> None:
        """Let the lane change files."""
        needs = self._union.changing()
        durable = Durable.VOLATILE if needs.volatile else Durable.ORDERED if needs.ordered else Durable.SYNCED
        self.lane.change_files(
            needs.scratch,
            durable,
            needs.number_xattr,
            writeback=self._union.options.writeback,
            static_links=needs.static_links,
        )

    def _take_in(self, edit: Edited) -> None:
        if edit.shown is not None:
            seen = fingerprint_of(*edit.shown)
            if edit.kind is LaneEdit.SET:
                self._union.take_in_owner(edit.number, seen)
            else:
                self._take_in_directory(edit, seen)
            return
        hidden = edit.kind is LaneEdit.HIDDEN
        self._union.take_in(edit.directory, edit.name, _EDITS[edit.kind], edit.number, hidden=hidden)

    def _take_in_directory(self, edit: Edited, seen: int) -> None:
        """Take in a directory that the lane has at hand already."""
        made = self._union.take_in_directory(edit.directory, edit.name, edit.number, edit.fd, seen)
        if made is None:
            if edit.fd >= 0:
                self.lane.drop(edit.number)
            return
        listing, part = made
        known = self._known[edit.number] = _Directory(listing)
        known.parts = [part]
        part.handed = edit.number, 0
        listing.watch = partial(self._edited, edit.number)

    def recall(self) -> None:
        """Have the union answer for all files again, and close the lane."""
        while number := self.lane.any():
            self._union.recall(number)
        self.lane.close()

    def offer(self, node: Directory) -> None:
        """Hand a loaded directory over, if the lane does not have it."""
        if node.ino in self._known or node.listing is None:
            return
        known = self._known[node.ino] = _Directory(node.listing)
        found = self._union.hand_over(node)
        if found is None or not self._rank(found):
            return
        shares = [*(self._share(part, found.held.get(part)) for part in found.parts), -1]  # the last is the upper's
        if not self.lane.directory(node.ino, found.parent, found.names, found.places, shares, found.references):
            return
        known.parts = found.parts
        for index, part in enumerate(found.parts):
            part.handed = node.ino, index
        if found.top is not None and found.shown is not None:
            self._show(node.ino, found.top, found.shown, single=found.single, makes=found.makes)
        node.listing.watch = partial(self._edited, node.ino)
        if node.listing.is_whole:
            node.listing.begin()  # who reads it by the lane does not tell
        else:
            known.relisted = True
            self.lane.relist(node.ino)

    def _rank(self, found: handed.Handed) -> bool:
        """Say with what numbers begin; False where the lane can know no more filesystems."""
        if len(found.ranks) == self._ranks:
            return True
        self._ranks = len(found.ranks)
        told = [self.lane.rank(device, rank) for device, rank in found.ranks.items()]
        return all(told)

    def _share(self, part: Part, held: handed.InImage | None) -> int:
        """Return what stands for a part among the lane's shares: a descriptor, a source, or -1 for neither."""
        if held is None:
            return part.fd
        share = self._sources.get(part.tree)
        if share is None:
            known = self.lane.source(SourceCalls(*held.source.calls, held.source.keep), held.rank)
            share, device = known or (-1, 0)
            if known is not None:
                self._devices[device] = part.tree.device
            self._sources[part.tree] = share
        return share

    def _edited(self, number: int, name: bytes | None, edit: Edit) -> None:
        """Withdraw what was handed over of a name that changes."""
        if name is None:
            self.drop(number)
            return
        if edit is not Edit.COPIED_UP:
            self.relist(number)
        if not self.lane.change(number, name, GONE if edit is Edit.REMOVED else ASK):
            self.drop(number)

    def relist(self, number: int) -> None:
        """Leave the listing of a directory to the union; its names are answered for as before."""
        known = self._known.get(number)
        if known is None or not known.is_handed or known.relisted:
            return
        known.relisted = True
        known.listing.keep_order()
        self.lane.relist(number)

    def look(self) -> None:
        """Forget directories that were kept only for files of the lane's; fetch ahead where it waits for a disk.

        What the lane has open becomes the union's as soon as that is asked for a file. So while the union can hold no
        more descriptors the lane opens none.
        """
        may_open = self._union.has_room()
        if self.lane.opens is not may_open:
            self.lane.opens = may_open
        directory, position = self.lane.slow()
        if directory and directory in self._known:
            names = list(islice(self._known[directory].listing.names, position, position + WINDOW))
            self._fetch(self._union.directory(directory), names)
        while number := self.lane.emptied():
            self._union.reap(number)

    def closed(self, number: int) -> None:
        """Let the lane have a file again that was closed; not while a handler that waits may have its node in hand."""
        if self.lane.outstanding <= 1:
            self._surrender(number)

    # What the union tells (union/front.py)

    def claim(self, number: int) -> None:
        self.lane.claim(number)

    def disclaim(self, number: int) -> None:
        self.lane.disclaim(number)

    def take(self, number: int) -> Known | None:
        taken = self.lane.take(number)
        if taken is None:
            return None
        return Known(*taken)._replace(device=self._devices.get(taken.device, taken.device))

    def give(self, known: Known) -> bool:
        device = known.device
        if device >= handed.DEVICES:
            device = next((own for own, its in self._devices.items() if its == device), 0)
        return self.lane.give(Taken(*known)._replace(device=device))

    def children(self, number: int) -> int:
        return self.lane.children(number)

    def top(self, number: int, part: Part, shown: Attributes, *, makes: bool) -> None:
        known = self._known.get(number)
        if known is not None and known.is_handed:
            self._show(number, part, shown, single=False, makes=makes)

    def _show(self, number: int, part: Part, shown: Attributes, *, single: bool, makes: bool) -> None:
        """Have a directory's attributes shown as a share of it has them."""
        known = self._known[number]
        if part.handed is None:
            part.handed = number, len(known.parts)
            known.parts.append(part)
            self.lane.share(*part.handed, part.fd)
        _, index = part.handed
        owner = {"mode": shown.st_mode, "uid": shown.st_uid, "gid": shown.st_gid}
        source = part.tree.source()
        reference = source.directory(part.fd) if source is not None else 0
        makes = makes and part.is_upper
        self.lane.top(number, index, single=single, makes=makes, reference=reference, **owner)

    def share(self, part: Part, fd: int) -> None:
        if part.handed is not None and part.tree not in self._sources:  # these are not closed
            self.lane.share(*part.handed, fd)

    def drop(self, number: int) -> None:
        """Forget a directory, which may be offered again."""
        if number not in self._known:
            return
        known = self._known[number]
        if known.is_handed:
            known.listing.keep_order()
        self.lane.drop(number)
        self._forget(number)

    def _forget(self, number: int) -> None:
        known = self._known.pop(number)
        known.listing.watch = None
        for part in known.parts:
            part.handed = None
