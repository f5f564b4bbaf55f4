"""The last close of large files that were removed: their filesystem frees the blocks then, 300 MB in 100 ms.

One thread does it, while requests are answered. Whoever removed the file hears of the end before the space is free, as
on any filesystem that frees behind the caller's back.
"""

import os
from queue import SimpleQueue
from threading import Thread

from layerfs.union import opened
from layerfs.union.data import MUCH
from layerfs.union.opened import Handle
from layerfs.union.shown import BLOCK


class Freeing:
    """A thread that closes descriptors; it is started when it is needed, and ends with `close`."""

    def __init__(self) -> None:
        self._descriptors: SimpleQueue[int | None] = SimpleQueue()
        self._thread: Thread | None = None

    def close_last(self, handle: Handle) -> None:
        """Close the last handle of a removed file: here, or in the thread if much is to be freed."""
        if not isinstance(handle, int) or os.fstat(handle).st_blocks * BLOCK < MUCH:
            opened.close(handle)
            return
        if self._thread is None:
            self._thread = Thread(target=self._work, name="layerfs-free", daemon=True)
            self._thread.start()
        self._descriptors.put(handle)

    def _work(self) -> None:
        while (fd := self._descriptors.get()) is not None:
            os.close(fd)

    def close(self) -> None:
        """Return when everything is closed."""
        if self._thread is not None:
            self._descriptors.put(None)
            self._thread.join()
            self._thread = None
