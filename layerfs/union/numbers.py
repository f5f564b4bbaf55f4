"""The numbers that objects have in a mount: st_ino and FUSE node id at once."""

from collections.abc import Mapping

from layerfs.union.digits import FIRST

HASHED = 1 << 61  # numbers that did not fit are hashed into the range above this
FRESH = 2 * HASHED  # numbers from here on are given by this mount, to what can have no other
BITS = 61
WORD = 32
RANK_SHIFT = 49  # inode numbers up to 5e14 on up to 4096 filesystems


class Numbers:
    """Gives each (device, inode number) of the layers a number of its own, the same one at every mount of the stack.

    The filesystem's rank, from the bottom of the stack up, stands in the highest bits, as kernel overlayfs's xino has
    it: a filesystem that comes in on top changes no number. What does not fit is hashed.

    `compact` (xino=off) keeps numbers within 32 bits where the filesystems' own leave room for the rank there: programs
    without large-file support can then stat and list.
    """

    __slots__ = ("_compact", "_ranks")

    def __init__(self, devices: list[int], *, compact: bool = False) -> None:
        self._ranks: dict[int, int] = {}
        for device in devices:
            self._ranks.setdefault(device, len(self._ranks))
        several = len(self._ranks) > 1
        self._compact = WORD - len(self._ranks).bit_length() if compact and several else 0  # bits for inode numbers

    def of(self, device: int, ino: int) -> int:
        """Return the number of one inode of one device."""
        rank = self._ranks.get(device)
        if rank is None:  # a filesystem mounted inside a layer
            rank = self._ranks.setdefault(device, len(self._ranks))
        if self._compact:
            if FIRST <= ino < 1 << self._compact and rank < 1 << (WORD - self._compact):
                return rank << self._compact | ino
            rank += 1  # no number of this form is one of that form
        if FIRST <= ino < 1 << RANK_SHIFT and rank < 1 << (BITS - RANK_SHIFT):
            return rank << RANK_SHIFT | ino
        return self.hashed(device, ino)

    def ranks(self) -> Mapping[int, int] | None:
        """Return the rank of each filesystem, if numbers that fit are `rank << RANK_SHIFT | inode`."""
        return None if self._compact else self._ranks

    def fits(self, number: int) -> bool:
        """Tell whether a number that was kept, perhaps under another `xino`, has the form of these."""
        return not self._compact or number < 1 << WORD

    def hashed(self, device: int, ino: int) -> int:
        """Return a number from the range that no other comes from."""
        import xxhash  # only for images and foreign filesystems

        return HASHED | xxhash.xxh3_64_intdigest(b"%d:%d" % (self._ranks[device], ino)) >> 3

    def named(self, parent: int, name: bytes) -> int:
        """Return the number of a name: of a lower hard link whose names cannot be kept one file."""
        import xxhash

        return HASHED | xxhash.xxh3_64_intdigest(b"%d/%s" % (parent, name)) >> 3
