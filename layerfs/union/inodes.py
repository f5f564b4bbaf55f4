"""What the kernel knows by number: nodes, and the table of nodes by their numbers.

A node's number is its st_ino and its FUSE node id at once. It comes from the object that the layers hold first (for
what has been copied up: from the lower that it came from), so that copy-up, rename and remount leave it alone.

A number that was read from a layer is a wish, never an identity: which node an object has is decided by its device and
inode alone (`Table.of_object`), and a wish for the number of another node that is remembered is not granted.

        Node ---- File        part: the share of its directory that holds it
          |
          `------ Directory   parts: the layers' shares, and their merged listing
"""

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from itertools import chain, count
from typing import TYPE_CHECKING

from layerfs.sys.limits import trim_memory
from layerfs.union import opened
from layerfs.union.handles import Handles
from layerfs.union.layers import Part, Parts, Tree
from layerfs.union.listing import Listing
from layerfs.union.numbers import FRESH
from layerfs.union.open_state import Opened
from layerfs.union.opened import Handle
from layerfs.union.shown import Attributes, fingerprint, fingerprint_of

if TYPE_CHECKING:
    from layerfs.union.front import Front
    from layerfs.union.pool import Pool

ROOT = 1  # FUSE_ROOT_ID
PARKED_NAMES = 20_000  # names in listings that outlive their FORGET; about 250 bytes each
LARGE_TABLE = 10_000  # nodes; a smaller table is not worth shrinking
PARKED_WEIGHT = 8  # names that a directory counts for by itself


class Node:
    """An object of the merged tree that the kernel, or an open file, may ask for again.

    `own` is the number that follows from the object's device and inode, where that is not `ino`; else 0. `seen` is the
    fingerprint of what was shown of the object last; 0 if nothing can change it.
    """

    __slots__ = ("ino", "lookups", "name", "own", "parent", "seen")

    def __init__(self, ino: int, parent: "Directory | None", name: bytes) -> None:
        self.ino = ino
        self.own = 0
        self.seen = 0
        self.lookups = 0
        self.parent = parent
        self.name = name

    def above(self) -> "Directory":
        """Return the directory that the node is in; ESTALE for one that has none: the root, or what is forgotten."""
        if self.parent is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return self.parent

    def is_seen(self, st: Attributes) -> bool:
        """Tell whether an object is the one that the kernel knows, with the owner and mode that it checks for it.

        Setuid and setgid may be gone: the host takes them when a server without CAP_FSETID changes the data.
        """
        return not self.seen or fingerprint(st) == self.seen or self.seen in _with_set_ids(st)


def _with_set_ids(st: Attributes) -> list[int]:
    """Return the fingerprints that an object had if it has lost setuid, setgid or both."""
    lost = (stat.S_ISUID, stat.S_ISGID, stat.S_ISUID | stat.S_ISGID)
    return [fingerprint_of(st.st_dev, st.st_ino, st.st_mode | bits, st.st_uid, st.st_gid) for bits in lost]


class File(Node):
    """Anything but a directory; `part` is None once its last known name is gone."""

    __slots__ = ("extra", "kind", "part", "preloaded")

    def __init__(self, ino: int, parent: "Directory", name: bytes, part: Part, kind: int) -> None:
        self.ino = ino  # as Node has it; spelt out, since every lookup of a new file comes through here
        self.own = self.seen = self.lookups = 0
        self.name = name
        self.parent = parent
        self.part: Part | None = part
        self.kind = kind  # stat.S_IFMT >> 12, a small integer
        self.extra: Opened | None = None
        self.preloaded = False  # its data were put into the kernel's page cache

    @classmethod
    def unnamed(cls, ino: int, parent: "Directory", kind: int) -> "File":
        """Return a file that has no name, in a directory."""
        node = cls.__new__(cls)
        Node.__init__(node, ino, parent, b"")
        node.kind, node.part, node.extra, node.preloaded = kind, None, None, False
        return node

    def opened(self) -> Opened:
        """Return the state that only some files need, made on first use."""
        if self.extra is None:
            self.extra = Opened()
        return self.extra

    @property
    def is_regular(self) -> bool:
        """Whether the file has data."""
        return self.kind == stat.S_IFREG >> 12

    @property
    def is_symlink(self) -> bool:
        """Whether the file is a symlink."""
        return self.kind == stat.S_IFLNK >> 12

    @property
    def tree(self) -> Tree:
        """The tree that holds the file, with a name or without; ESTALE if it is gone."""
        if self.part is not None:
            return self.part.tree
        if self.extra is None or self.extra.unnamed_in is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return self.extra.unnamed_in

    @property
    def is_upper(self) -> bool:
        """Whether the file has been copied up, or was made in the upper."""
        return self.part is None or self.part.is_upper


class Directory(Node):
    """A merged directory; its parts are resolved and its listing loaded when first needed.

    `candidates` are the shares of the parent in which this directory may have a share.
    """

    __slots__ = ("candidates", "children", "dead", "listing", "parts", "pinned", "remains")

    def __init__(self, ino: int, parent: "Directory | None", name: bytes, candidates: tuple[Part, ...]) -> None:
        self.ino = ino  # as Node has it, for the reason that File has
        self.own = self.seen = self.lookups = 0
        self.name = name
        self.parent = parent
        self.candidates = candidates
        self.parts: Parts | None = None
        self.listing: Listing | None = None
        self.children = 0  # nodes that have this one as their parent
        self.dead = False
        self.pinned: int | None = None  # the handle that a removed directory is still reached by
        self.remains: Attributes | None = None  # what a removed directory shows that has no such handle

    def upper(self) -> Part | None:
        """Return the upper's share; None while nothing below was ever changed."""
        return self.parts.upper if self.parts is not None else None

    def names(self) -> list[bytes]:
        """Return the names of the listing, if it is loaded."""
        return list(self.listing.names) if self.listing is not None else []


class Table:
    """Every node that is remembered, by number. A directory outlives its FORGET as long as a child needs it.

    Where there is a `front`, it answers for further files; `adopt` makes a node of one.
    """

    __slots__ = (
        "_evicting", "_files", "_fresh", "_handles", "_owned", "_parked", "_parked_names", "_peak", "adopt",
        "close_last", "front", "nodes", "parked_limit",
    )  # fmt: skip

    def __init__(self, handles: Handles, files: "Pool") -> None:
        self.nodes: dict[int, Node] = {}
        self.close_last: Callable[[Handle], None] = opened.close  # a front end may know a better time
        self.front: Front | None = None
        self.adopt: Callable[[int], Node | None] | None = None
        self.parked_limit = PARKED_NAMES
        self._parked: OrderedDict[Directory, int] = OrderedDict()
        self._parked_names = 0
        self._peak = 0
        self._evicting = False
        self._owned: dict[int, int] = {}  # the numbers of nodes by their objects' own numbers, where these differ
        self._fresh = count(FRESH)
        self._handles = handles
        self._files = files

    def __len__(self) -> int:
        return len(self.nodes)

    def add(self, node: Node) -> None:
        """Remember a new node, and that its parent has one more child."""
        self.nodes[node.ino] = node
        if node.own:
            self._owned[node.own] = node.ino
        if node.parent is not None:
            node.parent.children += 1
        if self.front is not None:
            self._claim(self.front, node)

    def _claim(self, front: "Front", node: Node) -> None:
        """Have the front answer for a node's numbers no more."""
        front.claim(node.ino)
        if node.own:
            front.claim(node.own)

    def answer_with(self, front: "Front | None", adopt: Callable[[int], Node | None] | None) -> None:
        """Set the front, which answers for files that have no node here; None for no front."""
        if front is not None:
            for node in self.nodes.values():
                self._claim(front, node)
        self.front, self.adopt = front, adopt

    def find(self, number: int) -> Node | None:
        """Return the node of a number; None for one that was never given, or is forgotten."""
        node = self.nodes.get(number)
        if node is None and self.adopt is not None:
            return self.adopt(number)
        return node

    def of_object(self, own: int) -> Node | None:
        """Return the node of the object to which a number belongs by its device and inode."""
        node = self.find(self._owned.get(own, own) if self._owned else own)
        return node if node is not None and (node.own or node.ino) == own else None

    def free_number(self, *wanted: int) -> int:
        """Return a number that no other node has: the first of those that are wanted, or else a fresh one."""
        return next(number for number in chain(wanted, self._fresh) if self.find(number) is None)

    def owns(self, node: Node, own: int) -> None:
        """Note that a node stands for another object than before: its copy in the upper."""
        if node.own:
            self._owned.pop(node.own, None)
            if self.front is not None:
                self.front.disclaim(node.own)
        node.own = 0 if own == node.ino else own
        if node.own:
            self._owned[node.own] = node.ino
            if self.front is not None:
                self.find(node.own)  # the front has it where a layer was exchanged below the mount
                self.front.claim(node.own)

    def _remove(self, node: Node) -> None:
        del self.nodes[node.ino]
        if node.own and self._owned.get(node.own) == node.ino:
            del self._owned[node.own]
        if self.front is not None:
            self.front.disclaim(node.ino)
            if node.own:
                self.front.disclaim(node.own)

    def give_up(self, node: File, taken: Callable[[], bool]) -> None:
        """Forget a file's node if somebody else takes what it stands for; nothing has it open."""
        self._remove(node)
        if taken():
            parent, node.parent = node.parent, None
            if parent is not None:
                parent.children -= 1
            return
        self.nodes[node.ino] = node
        if self.front is not None:
            self._claim(self.front, node)

    def _is_parent(self, node: Directory) -> bool:
        """Tell whether something needs a directory as its parent."""
        return node.children > 0 or (self.front is not None and self.front.children(node.ino) > 0)

    def move(self, node: Node, parent: Directory, name: bytes) -> None:
        """Give a node another parent and name."""
        old = node.parent
        node.parent, node.name = parent, name
        if self.front is not None and isinstance(node, Directory):
            self.front.drop(node.ino)
        if old is not parent:
            parent.children += 1
            if old is not None:
                old.children -= 1
                self.reap(old)

    def forget(self, ino: int, count: int) -> None:
        """Take back lookups; the node goes when nothing needs it."""
        node = self.nodes.get(ino)
        if node is not None:
            self._peak = max(self._peak, len(self.nodes))
            node.lookups = max(node.lookups - count, 0)
            self.reap(node)
            if self._peak > LARGE_TABLE and len(self.nodes) * 4 < self._peak:
                self._shrink()

    def _shrink(self) -> None:
        """Rebuild the tables after many nodes were forgotten: a dict never gives memory back."""
        self.nodes = dict(self.nodes)
        self._peak = len(self.nodes)
        trim_memory()

    def reap(self, node: Node | None) -> None:
        """Drop a node that nobody needs, and then its parents as far as the same is true of them."""
        while node is not None and node.lookups == 0 and node.ino != ROOT and self.nodes.get(node.ino) is node:
            if self._park(node) or not self._release(node):
                return
            self._remove(node)
            parent, node.parent = node.parent, None
            if parent is not None:
                parent.children -= 1
            node = parent

    def _park(self, node: Node) -> bool:
        """Keep a directory with its listing after its FORGET, within bounds: reading 40 layers again is expensive.

        The oldest go first; a directory that is in use again when its turn comes stays, and is parked anew later.
        """
        if not isinstance(node, Directory) or node.listing is None or node.dead or self._evicting:
            return False
        if self._is_parent(node):
            return False
        weight = len(node.listing.names) + PARKED_WEIGHT
        self._parked_names += weight - self._parked.pop(node, 0)
        self._parked[node] = weight
        if self._parked_names > self.parked_limit:
            self._evict()
        return True

    def _evict(self) -> None:
        """Let go of parked directories until the rest are within bounds."""
        while self._parked_names > self.parked_limit:
            node, weight = self._parked.popitem(last=False)
            self._parked_names -= weight
            self._evicting = True
            try:
                self.reap(node)
            finally:
                self._evicting = False

    def _release(self, node: Node) -> bool:
        """Give back what a node holds, unless something still needs it."""
        if isinstance(node, Directory):
            if self._is_parent(node):
                return False
            self._release_parts(node)
        elif isinstance(node, File) and node.extra is not None:
            if node.extra.opens or node.extra.busy:
                return False
            self._release_file(node, node.extra)
        return True

    def _release_parts(self, node: Directory) -> None:
        if node.parts is not None:
            for part in node.parts.all():
                self._handles.drop(part)
            if node.pinned is not None:
                node.parts.top.tree.close_dir(node.pinned)
                node.pinned = None
                self._files.let_go(node)
        node.listing = None
        if self.front is not None:
            self.front.drop(node.ino)

    def _release_file(self, node: File, extra: Opened) -> None:
        extra.close_retired()
        if extra.data is not None:
            self.close_last(extra.data)
            extra.data = None
            self._files.remove(node)
        self._files.let_go(node)
        if extra.pinned is not None:
            self.close_last(extra.pinned)
            extra.pinned = None
        extra.forget_kept()
        for parent, _ in extra.aliases:
            parent.children -= 1
            self.reap(parent)
        extra.aliases = {}
        node.extra = None

    def close(self) -> None:
        """Release every descriptor that a node still holds."""
        for node in list(self.nodes.values()):
            if isinstance(node, File) and node.extra is not None:
                self._release_file(node, node.extra)
            elif isinstance(node, Directory):
                self._release_parts(node)
