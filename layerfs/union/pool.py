"""The pool of open file descriptors: how many are open, and which may be closed to make room.

A thousand open files of a container need not be a thousand of ours: what can be opened again is closed when there are
too many.
"""

import errno
import os
import stat
from itertools import islice

from layerfs.union import opened
from layerfs.union.inodes import File, Node
from layerfs.union.open_state import Opened
from layerfs.value import value

MARGIN = 64  # descriptors that directories leave to copies, threads and an import, however many files are open; guessed


@value
class Room:
    """The bounds: how many descriptors of directories are kept open, and how many of files there may be."""

    directories: int
    files: int


class Pool:
    """Bounds the data descriptors that are open at once; the one opened first goes first.

    Only a descriptor that can be opened again is closed. Where there are too many others, `admit` refuses the next
    open(2) while directories can still be opened and what is open works.
    """

    __slots__ = ("_files", "_held", "capacity", "limit")

    def __init__(self, limit: int, capacity: int) -> None:
        self.limit = limit
        self.capacity = capacity
        self._files: dict[File, None] = {}  # in the order of their opening
        self._held: set[Node] = set()  # without a name: their descriptor is all that is left of them

    def __len__(self) -> int:
        return len(self._files)

    def admit(self) -> None:
        """Make room for one more; EMFILE where there is none."""
        if self.is_full:
            self._close(self._used + 1 - self.capacity)
            if self.is_full:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def add(self, node: File) -> None:
        """Note that a file's descriptor was opened; this one stays open now."""
        self._files.pop(node, None)
        self._close(len(self._files) + 1 - self.limit)
        self._files[node] = None

    def shrink(self) -> None:
        """Close half of what can be opened again."""
        self._close(len(self._files) // 2)

    def _close(self, count: int) -> None:
        """Try to close some; those that must stay go to the end."""
        for old in list(islice(self._files, max(count, 0)))[:64]:
            del self._files[old]
            if not _close_data(old):
                self._files[old] = None

    def remove(self, node: File) -> None:
        """Note that a file's descriptor was closed."""
        self._files.pop(node, None)

    @property
    def is_full(self) -> bool:
        """Whether there are as many open files as there may be."""
        return self._used >= self.capacity

    @property
    def _used(self) -> int:
        return len(self._files) + len(self._held)

    @property
    def left(self) -> int:
        """How many descriptors directories may have; below 0 it is none."""
        return self.capacity + MARGIN - self._used

    def leave(self, count: int) -> None:
        """Leave so many descriptors to somebody else."""
        self.capacity = max(self.capacity - count, 16)

    @property
    def is_crowded(self) -> bool:
        """Whether nodes without a name hold so many descriptors that others would lack them."""
        return len(self._held) >= self.limit // 2 or self.is_full

    def check_room(self) -> None:
        """Raise ENFILE where no more nodes without a name may have a descriptor."""
        if len(self._held) >= self.limit or self.left <= MARGIN // 2:
            raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))

    def hold(self, node: Node) -> None:
        """Note a node without a name whose descriptor must stay open."""
        self._held.add(node)

    def let_go(self, node: Node) -> None:
        """Note that a node has no such descriptor any more."""
        self._held.discard(node)


def _close_data(node: File) -> bool:
    """Close a descriptor that can be opened again; False if it must stay."""
    extra = node.extra
    if extra is None or extra.data is None:
        return True
    if (node.part is None and not extra.is_held_by_name) or extra.busy or extra.retired or not _can_reopen(extra):
        return False
    opened.close(extra.data)
    extra.data, extra.writable = None, False
    return True


def _can_reopen(extra: Opened) -> bool:
    """Tell whether a file can be opened once more as it is open now: a plain user's server obeys its mode."""
    if os.geteuid() == 0 or not isinstance(extra.data, int):
        return True
    st = os.fstat(extra.data)
    wanted = stat.S_IRUSR | (stat.S_IWUSR if extra.writable else 0)
    return st.st_uid != os.geteuid() or st.st_mode & wanted == wanted
