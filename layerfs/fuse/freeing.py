"""The last close of large files that were removed: their filesystem frees the blocks then, 300 MB in 100 ms.

One thread does it, while requests are answered. Whoever removed the file hears of the end before the space is free, as
on any filesystem that frees behind the caller's back.
"""

import os
from typing import TYPE_CHECKING

from layerfs.union import opened
from layerfs.union.opened import Handle
from layerfs.union.shown import BLOCK

if TYPE_CHECKING:
    from queue import SimpleQueue
    from threading import Thread


class Freeing:
    """A thread that closes descriptors; it is started when it is needed, and ends with `close`."""

    def __init__(self) -> None:
        self._descriptors: SimpleQueue[int | None] | None = None
        self._thread: Thread | None = None

    def close_last(self, handle: Handle) -> None:
        """Close the last handle of a removed file: here, or in the thread if much is to be freed."""
        from layerfs.union.data import MUCH  # a mount that is only looked at closes nothing

        if not isinstance(handle, int) or os.fstat(handle).st_blocks * BLOCK < MUCH:
            opened.close(handle)
            return
        if self._descriptors is None:
            from queue import SimpleQueue  # most mounts free nothing that is large
            from threading import Thread

            self._descriptors = SimpleQueue()
            self._thread = Thread(target=self._work, args=(self._descriptors,), name="layerfs-free", daemon=True)
            self._thread.start()
        self._descriptors.put(handle)

    @staticmethod
    def _work(descriptors: "SimpleQueue[int | None]") -> None:
        while (fd := descriptors.get()) is not None:
            os.close(fd)

    def close(self) -> None:
        """Return when everything is closed."""
        if self._thread is not None and self._descriptors is not None:
            self._descriptors.put(None)
            self._thread.join()
            self._thread = self._descriptors = None
