"""Files that the kernel opens by itself: OPEN was answered with ENOSYS, so it sends neither OPEN nor RELEASE.

A warm open, read and close then asks nobody. Requests about such a file carry its number in the place of the handle
(layerfs/lane/intercept.c). It is opened here when it is read first, and closed when it was read whole, when the kernel
forgets it, or when others need the room; then it is opened again. So this is only for mounts without an upper, where
whatever can be open can be opened again (ARCHITECTURE.md says what stands against others).
"""

import os
from typing import Final

from layerfs.union.union import Union

LIMIT: Final = 256  # files; guessed. Small ones are read whole, and do not stay open


class ImplicitOpens:
    """The files of one union that are open here though no client is known to have them open."""

    def __init__(self, union: Union, limit: int = LIMIT) -> None:
        self._union = union
        self._limit = limit
        self._open: dict[int, None] = {}  # in the order of their opening

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, ino: int) -> bool:
        return ino in self._open

    def open(self, ino: int) -> bool:
        """Open a file, if it is not; tell whether it was not. The one opened first makes room.

        Raises ESTALE where its name leads to another file by now, and what open(2) does.
        """
        if ino in self._open:
            return False
        self._union.open_file(ino, os.O_RDONLY)
        self._open[ino] = None
        if len(self._open) > self._limit:
            self.close(next(iter(self._open)))
        return True

    def close(self, ino: int) -> bool:
        """Close a file, if it is open; tell whether it was."""
        if ino not in self._open:
            return False
        del self._open[ino]
        self._union.release(ino)
        return True
