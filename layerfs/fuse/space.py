"""Tells whether the upper has room for what the kernel has not written back yet.

With the writeback cache write(2) only fills pages; a full upper shows when they are written back, and then only
fsync(2) and close(2) can tell. So files that are opened where the upper is nearly full are written through
(FOPEN_DIRECT_IO): their write(2) says ENOSPC. The kernel itself bounds what a FUSE mount may have dirty, to 1 % of what
the host may have (fs/fuse/inode.c, bdi_set_max_ratio), which is some 50 MB on a host of 24 GB.
"""

from time import monotonic
from typing import Final

from layerfs.union.union import Union

ENOUGH: Final = 256 << 20  # bytes free; guessed: five times what such a host has dirty
FRESH: Final = 0.05  # s; who fills the upper quicker than ENOUGH in this time is told by close(2)


def is_nearly_full(union: Union) -> bool:
    """Tell whether so little room is left in a writable upper that it may not hold what is dirty."""
    if union.read_only:
        return False
    vfs = union.statvfs()
    return vfs.f_bavail * vfs.f_frsize < ENOUGH


class Space:
    """The room in one union's upper, looked at now and then."""

    def __init__(self, union: Union, *, matters: bool) -> None:
        """`matters` says that the kernel writes back later, and that files can be written through instead."""
        self._union = union
        self._matters = matters
        self._short = False
        self._looked = 0.0

    @property
    def is_short(self) -> bool:
        """Whether a file that is opened now is to be written through."""
        if not self._matters:
            return False
        now = monotonic()
        if now - self._looked > FRESH:
            self._looked, self._short = now, is_nearly_full(self._union)
        return self._short
