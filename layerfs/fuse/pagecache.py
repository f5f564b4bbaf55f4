"""Putting file data into the kernel's page cache unasked: an open that brings a small file along saves it a READ.

libfuse would need a later protocol than we play to it (handshake.py), so the notification is written to the device by
hand: struct fuse_out_header with error = FUSE_NOTIFY_STORE and unique = 0, struct fuse_notify_store_out, and the data
(include/uapi/linux/fuse.h).
"""

import os
import struct

NOTIFY_STORE = 4
_HEADER = struct.Struct("=IiQQQII")  # len, error, unique; nodeid, offset, size, padding


class PageCache:
    """The page cache of one mount. Owns its descriptor of the device."""

    def __init__(self, device: int) -> None:
        self._device = os.dup(device)

    def store(self, ino: int, data: bytes | memoryview) -> None:
        """Store a file's whole content. Only for data that cannot be dirty in the kernel; a refusal costs nothing."""
        size = len(data)
        header = _HEADER.pack(_HEADER.size + size, NOTIFY_STORE, 0, ino, 0, size, 0)
        try:
            os.writev(self._device, (header, data))
        except OSError:
            pass  # forgotten meanwhile (ENOENT), out of memory, unmounted: the READ that comes instead tells

    def close(self) -> None:
        """Give the device back."""
        os.close(self._device)
