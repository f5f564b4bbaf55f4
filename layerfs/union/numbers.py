"""The numbers that nodes bear as st_ino: the same ones at every mount of a stack."""

from typing import Final

from layerfs.union.digits import FIRST

HASHED: Final = 1 << 61  # numbers that did not fit are hashed into the range above this
FRESH: Final = 2 * HASHED  # numbers from here on are given by this mount, to what can have no other
BITS: Final = 61
RANK_SHIFT: Final = 49  # inode numbers up to 5e14 on up to 4096 filesystems


class Numbers:
    """Gives each (device, inode number) of the layers a number of its own, the same one at every mount of the stack.

    The filesystem's rank, from the bottom of the stack up, stands in the highest bits, as kernel overlayfs's xino has
    it: a filesystem that comes in on top changes no number. What does not fit is hashed.
    """

    __slots__ = ("_ranks",)

    def __init__(self, devices: list[int]) -> None:
        self._ranks: dict[int, int] = {}
        for device in devices:
            self._ranks.setdefault(device, len(self._ranks))

    def of(self, device: int, ino: int) -> int:
        """Return the number of one inode of one device."""
        rank = self._ranks.get(device)
        if rank is None:  # a filesystem mounted inside a layer
            rank = self._ranks.setdefault(device, len(self._ranks))
        if FIRST <= ino < 1 << RANK_SHIFT and rank < 1 << (BITS - RANK_SHIFT):
            return rank << RANK_SHIFT | ino
        return self.hashed(device, ino)

    def hashed(self, device: int, ino: int) -> int:
        """Return a number from the range that no other comes from."""
        import xxhash  # only for images and foreign filesystems

        return HASHED | xxhash.xxh3_64_intdigest(b"%d:%d" % (self._ranks[device], ino)) >> 3

    def named(self, parent: int, name: bytes) -> int:
        """Return the number of a name: of a lower hard link whose names cannot be kept one file."""
        import xxhash

        return HASHED | xxhash.xxh3_64_intdigest(b"%d/%s" % (parent, name)) >> 3
