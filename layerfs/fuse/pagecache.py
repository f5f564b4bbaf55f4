"""Notifications to the kernel: data for its page cache, and attributes that are out of date.

libfuse would need a later protocol than we play to it (device.py), so notifications are written to the device by hand.
"""

import os

from layerfs.fuse import wire
from layerfs.fuse.wire import Notification


class PageCache:
    """The kernel's caches of one mount. Owns its descriptor of the device."""

    def __init__(self, device: int) -> None:
        self._device = os.dup(device)

    def store(self, ino: int, data: bytes | memoryview) -> None:
        """Store a file's whole content: an open that brings a small file along saves it a READ.

        Only for data that cannot be dirty in the kernel; a refusal costs nothing.
        """
        size = len(data)
        head = wire.notification_header(Notification.STORE, wire.STORE.size + size)
        self._tell(head + wire.STORE.pack(ino, 0, size, 0), data)

    def changed(self, ino: int) -> None:
        """Have the kernel ask for a node's attributes, and ACLs, when they are needed next.

        Never blocks: no page is touched, and the request that we are answering holds the node's inode.
        """
        self._invalidate(ino, -1)

    def listing_changed(self, ino: int) -> None:
        """Have the kernel ask for a directory's listing again.

        Never blocks: nobody waits for an answer with a page of a listing locked (fs/fuse/readdir.c).
        """
        self._invalidate(ino, 0)

    def _invalidate(self, ino: int, offset: int) -> None:
        """Drop a node's attributes, and what is cached of it from an offset on; -1: none of that."""
        head = wire.notification_header(Notification.INVAL_INODE, wire.INVAL_INODE.size)
        self._tell(head + wire.INVAL_INODE.pack(ino, offset, 0))

    def _tell(self, *parts: bytes | memoryview) -> None:
        try:
            os.writev(self._device, parts)
        except OSError:
            pass  # forgotten meanwhile (ENOENT), out of memory, unmounted: the next request tells

    def close(self) -> None:
        """Give the device back."""
        os.close(self._device)
