"""An image as a source (`layerfs.union.layers.NativeSource`): its C answers for files without Python.

An object is known by the reference of its inode. The C checks all that an image says at each call, and fails where
anything is amiss: then the union is asked, which says what.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from layerfs.pysquashfs import InodeCalls

if TYPE_CHECKING:
    from layerfs.lowers.squash import SquashLower

LARGE: Final = (
    2000  # names; the inodes of a larger listing take a megabyte that is hardly needed once it is handed over
)


class ImageSource:
    """The source of one image."""

    def __init__(self, tree: "SquashLower") -> None:
        self._calls: InodeCalls = tree.image.calls()
        self._tree = tree

    @property
    def calls(self) -> tuple[int, int, int, int]:
        """Leaves reading to threads where to uncompress a block takes long."""
        image, stat, link, read, _ = self._calls
        return image, stat, link, read if self._tree.quick else 0

    @property
    def keep(self) -> object:
        return self._calls.keep

    def names(self, handle: int) -> Mapping[bytes, int]:
        """Leaves out what cannot be read, or is not what its entry says."""
        listing = self._tree.listing(handle)
        references = {name: inode.ref for name, inode in listing.items() if inode.number}
        if len(listing) > LARGE:
            self._tree.forget_listing(handle)
        return references

    def directory(self, handle: int) -> int:
        return handle
