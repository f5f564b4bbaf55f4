"""What the answers of one mount keep between requests, beside the union. The prelude hands it to the session whole."""

from typing import TYPE_CHECKING

from layerfs.fuse.freeing import Freeing
from layerfs.fuse.implicit import ImplicitOpens
from layerfs.fuse.pagecache import PageCache
from layerfs.fuse.prefetch_attributes import AttributePrefetch
from layerfs.fuse.prefetch_data import DataPrefetch
from layerfs.fuse.prefetch_listings import ListingPrefetch
from layerfs.fuse.space import Space
from layerfs.fuse.syncing import bring_to_disk
from layerfs.union import opened
from layerfs.union.union import Union

if TYPE_CHECKING:
    from layerfs.fuse.tables import Tables
    from layerfs.lane.lane import Lane


class Kept:
    """What is open, what is to be synced, and the helpers that read ahead and free behind."""

    def __init__(self, union: Union, pages: PageCache | None = None) -> None:
        """Own `pages`."""
        self._union = union
        self.pages = pages
        self.has_written = False  # something that is to be synced when the mount ends
        self._makes = False  # a lane may change files: the changes that are synced at once are not its affair
        self.space = Space(union, matters=False)
        self.implicit: ImplicitOpens | None = None  # where the kernel opens files by itself
        self.no_opendir = False  # the kernel opens directories by itself, and keeps their listings
        self.tables: Tables | None = None  # of the lane, if there is one
        self.changed: set[int] = set()  # nodes that the server has changed by itself since they were synced
        self.freeing = Freeing()
        self.listing_prefetch = ListingPrefetch(union.trees)
        self.attribute_prefetch = AttributePrefetch()
        self.data_prefetch = DataPrefetch()
        union.close_by(self.freeing.close_last)
        union.read_with(self.listing_prefetch.together)

    def read_natively(self) -> None:
        """Have directories read natively from now on."""
        from layerfs.fuse.reading import NativeReader  # compiled, and some milliseconds for the first that imports it

        if self.listing_prefetch.natively is None:
            self.listing_prefetch.natively = NativeReader()

    def answer_natively(self, lane: "Lane") -> "Tables":
        """Hand over to a lane what it can answer, until it is closed, or go on with one to which this was done."""
        from layerfs.fuse.tables import Tables  # few mounts that live for a moment have a lane

        self.read_natively()
        if self.tables is None:
            self.tables = Tables(self._union, lane, self.attribute_prefetch.fetch)
            lane.closing = self._answer_alone
            if self.implicit is not None:
                lane.no_open()
            if self._makes:
                self.tables.change_files()
        return self.tables

    def note_writing(self, *, natively: bool) -> None:
        """Note that something is changed from now on; `natively` says that a lane may do so, too."""
        self.has_written = True
        self._makes = natively and not self._union.read_only
        if self._makes and self.tables is not None:
            self.tables.change_files()

    def _answer_alone(self) -> None:
        tables, self.tables = self.tables, None
        if tables is not None:
            tables.close()

    def close(self) -> None:
        """End the helpers."""
        self.listing_prefetch.close()
        self._union.close_by(opened.close)
        self.freeing.close()
        if self.pages is not None:
            self.pages.close()

    def bring_to_disk(self) -> None:
        """Sync the upper if something was written."""
        if self.has_written:
            bring_to_disk(self._union)
