"""Fetches data ahead: where small files are opened in order, the disk is asked for the data of those that follow.

A disk answers several reads at once almost as soon as one, but an open that brings its data along (pagecache.py) waits
for one alone. So when files of a directory are opened in the order of its listing, or by name, the next ones are opened
here as well, for posix_fadvise(2), which waits for nothing. It stops when the data turn out to be in memory already.

Threads that read them instead gained less: each of their system calls takes the interpreter from the one that answers.
"""

import errno
import os
from collections.abc import Callable, Iterable

from layerfs.fuse.prefetch_attributes import HostName, host_name
from layerfs.sys import dirs
from layerfs.union.inodes import Directory

FEED = 32 << 10  # bytes; guessed: files up to this size are mostly read whole
WAITS = 2  # files of one directory that had to wait for the disk; from then on the order is looked for
LOW, HIGH = 6, 16  # files ahead: asked for again below LOW, up to HIGH
LISTED = 20_000  # names in a directory; the order of more takes too long to find out
KNOWN = 16  # files in a row that were in memory: nobody waits for a disk here
_Order = Callable[[Iterable[bytes]], list[bytes]]
_ORDERS: tuple[_Order, ...] = (list, sorted)


class DataPrefetch:
    """Follows the order in which the small files of one directory are opened, and fetches those that come next."""

    def __init__(self) -> None:
        self._directory = 0
        self._orders: tuple[_Order, ...] = _ORDERS  # the one that was right last comes first
        self._buffer = [bytearray(1)]
        self._begin()

    def _begin(self) -> None:
        self._waits = 0
        self._order: list[bytes] = []
        self._last = b""
        self._here = 0  # the position of the file that was opened last
        self._asked = 0  # of the first one that the disk was not asked for
        self._known = 0

    def opened(self, parent: Directory, name: bytes, *, waited: bool) -> None:
        """Note that a small file was opened, and whether its data had to be waited for."""
        if parent.ino != self._directory:
            self._enter(parent, name)
        elif self._order:
            self._follow(parent, name)
        if waited and not self._order:
            self._waits += 1
            if self._waits >= WAITS and not self._waits & (self._waits - 1):  # each time twice as many: it costs
                self._look(parent, name)
            self._last = name

    def _enter(self, parent: Directory, name: bytes) -> None:
        """Go on in another directory: at once, if the last one was followed to its end and this is the first file."""
        goes_on = self._order and self._here >= len(self._order) - 1
        self._directory = parent.ino
        self._begin()
        if goes_on and parent.listing is not None and len(parent.listing.names) <= LISTED:
            self._take(parent, self._orders[0](parent.listing.names), name, 0)

    def _look(self, parent: Directory, name: bytes) -> None:
        """Find the order in which this file comes after the last one."""
        if parent.listing is None or len(parent.listing.names) > LISTED:
            return
        for make in self._orders:
            order = make(parent.listing.names)
            here = order.index(name) if name in order else 0
            if here and order[here - 1] == self._last:
                self._orders = (make, *(other for other in _ORDERS if other is not make))
                self._take(parent, order, name, here)
                return

    def _take(self, parent: Directory, order: list[bytes], name: bytes, here: int) -> None:
        if order and order[here] == name:
            self._order, self._here, self._asked = order, here, here + 1
            self._ask(parent)

    def _follow(self, parent: Directory, name: bytes) -> None:
        self._here += 1
        if self._here >= len(self._order) or self._order[self._here] != name or self._known > KNOWN:
            self._begin()
        elif self._asked - self._here < LOW:
            self._ask(parent)

    def _ask(self, parent: Directory) -> None:
        end = min(self._here + HIGH, len(self._order))
        for name in self._order[max(self._asked, self._here + 1) : end]:
            file = host_name(parent, name)
            if file is None:
                continue
            try:
                self._known = self._known + 1 if self._advise(file) else 0
            except OSError:
                pass  # gone, or not ours to read: whoever opens it is told
        self._asked = max(self._asked, end)

    def _advise(self, file: HostName) -> bool:
        """Ask the disk for the beginning of a file; True if it is in memory."""
        at, name = file
        try:
            fd = dirs.open_regular(at, name, os.O_RDONLY)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            return True  # a symlink or a device has no data on the disk
        try:
            try:
                os.preadv(fd, self._buffer, 0, os.RWF_NOWAIT)
                return True
            except BlockingIOError:
                os.posix_fadvise(fd, 0, FEED, os.POSIX_FADV_WILLNEED)
                return False
        finally:
            os.close(fd)
