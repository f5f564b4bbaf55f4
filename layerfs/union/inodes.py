"""What the kernel knows by number: nodes, the table of them, and the numbers they bear.

A node's number is its st_ino and its FUSE node id at once. It comes from the object that the layers hold first (for
what has been copied up: from the lower that it came from), so that copy-up, rename and remount leave it alone.

        Node ---- File        place: the part that holds it, and its name there
          |
          `------ Directory   parts: [upper or None, lowers top first], and their merged listing
"""

import stat
from collections import OrderedDict
from itertools import islice

from layerfs.sys.limits import trim_memory
from layerfs.union import opened
from layerfs.union.digits import decimal
from layerfs.union.layers import Handles, Part, Tree

ROOT = 1  # FUSE_ROOT_ID
FIRST = 2  # numbers 0 and 1 mean "none" and "the root" to FUSE
HASHED = 1 << 61  # numbers that did not fit are hashed into the range above this
KEPT_MAX = 2 * HASHED - 1  # the largest number that an object may keep
BITS = 61
RANK_SHIFT = 49  # inode numbers up to 5e14 on up to 4096 filesystems
PARKED_NAMES = 20_000  # names in listings that outlive their FORGET; about 250 bytes each
LARGE_TABLE = 10_000  # nodes; a smaller table is not worth shrinking
PARKED_WEIGHT = 8  # names that a directory counts for by itself

Where = int | tuple[int, ...]  # in a listing: the part that holds a file, or the parts that may hold a directory


class Node:
    """An object of the merged tree that the kernel, or an open file, may ask for again."""

    __slots__ = ("ino", "lookups", "name", "parent")

    def __init__(self, ino: int, parent: "Directory | None", name: bytes) -> None:
        self.ino = ino
        self.lookups = 0
        self.parent = parent
        self.name = name


class Opened:
    """The rarer state of a file: its data descriptor, who has it open, its further names."""

    __slots__ = ("aliases", "busy", "fd", "opens", "orphan_of", "pinned", "retired", "sxid", "writable")

    def __init__(self) -> None:
        self.fd = -1  # as all of these, a handle of `opened`
        self.pinned = -1  # one that keeps a file without a name, and without data open, alive
        self.writable = False
        self.opens = 0
        self.busy = 0  # threads that use the descriptor now
        self.retired: list[int] = []
        self.aliases: dict[tuple[Directory, bytes], None] = {}  # its names but the one in the node, in order
        self.orphan_of: Tree | None = None  # the lower that still has it, when only descriptors here reach it
        self.sxid: bool | None = None  # setuid or setgid bits; None: not looked at

    def anchor(self) -> int:
        """Return a descriptor by which a file without a name is reached."""
        return self.fd if self.fd >= 0 else self.pinned

    def retire(self) -> None:
        """Set the data descriptor aside: a thread may use it. Who uses a file in an image holds the file itself."""
        if self.fd >= opened.FOREIGN:
            opened.close(self.fd)
        elif self.fd >= 0:
            self.retired.append(self.fd)
        self.fd = -1

    def unpin(self) -> None:
        """Let go: the file has a name again, or is gone."""
        if self.pinned >= 0:
            opened.close(self.pinned)
            self.pinned = -1


class File(Node):
    """Anything but a directory; `place` is None once its last known name is gone."""

    __slots__ = ("extra", "fed", "kind", "place")

    def __init__(self, ino: int, parent: "Directory", name: bytes, place: Part, kind: int) -> None:
        self.ino = ino  # as Node has it; spelt out, since every lookup of a new file comes through here
        self.lookups = 0
        self.name = name
        self.parent = parent
        self.place: Part | None = place
        self.kind = kind  # stat.S_IFMT >> 12, a small integer
        self.extra: Opened | None = None
        self.fed = False  # its data were put into the kernel's page cache

    def opened(self) -> Opened:
        """Return the rarer state, made on first use."""
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
    def is_upper(self) -> bool:
        """Whether the file has been copied up, or was made in the upper."""
        return self.place is None or self.place.tree.index == 0


class Directory(Node):
    """A merged directory; its parts are resolved and its listing loaded when first needed.

    `candidates` says where in the parent's parts this directory may have shares. `covered` are the names at which the
    upper hides something of the lowers; `whites` those with a whiteout of the upper, and in which form.
    """

    __slots__ = ("candidates", "covered", "dead", "kids", "listing", "parts", "pinned", "whites")

    def __init__(self, ino: int, parent: "Directory | None", name: bytes, candidates: tuple[int, ...]) -> None:
        super().__init__(ino, parent, name)
        self.candidates = candidates
        self.parts: list[Part | None] | None = None
        self.listing: dict[bytes, Where] | None = None
        self.covered: set[bytes] = set()
        self.whites: dict[bytes, bool] = {}  # True: a device at the name; False: a file `.wh.NAME`
        self.kids = 0
        self.dead = False
        self.pinned = -1  # the descriptor that a removed directory is still reached by

    def upper(self) -> Part | None:
        """Return the upper's share; None while nothing below was ever changed."""
        return self.parts[0] if self.parts else None


class Table:
    """Every node that is remembered, by number. A directory outlives its FORGET as long as a child needs it."""

    __slots__ = ("_evicting", "_files", "_handles", "_parked", "_parked_names", "_peak", "nodes", "parked_limit")

    def __init__(self, handles: Handles, files: "Pool") -> None:
        self.nodes: dict[int, Node] = {}
        self.parked_limit = PARKED_NAMES
        self._parked: OrderedDict[Directory, int] = OrderedDict()
        self._parked_names = 0
        self._peak = 0
        self._evicting = False
        self._handles = handles
        self._files = files

    def __len__(self) -> int:
        return len(self.nodes)

    def add(self, node: Node) -> None:
        """Remember a new node, and that its parent has one more child."""
        self.nodes[node.ino] = node
        if node.parent is not None:
            node.parent.kids += 1

    def move(self, node: Node, parent: Directory, name: bytes) -> None:
        """Give a node another parent and name."""
        old = node.parent
        node.parent, node.name = parent, name
        if old is not parent:
            parent.kids += 1
            if old is not None:
                old.kids -= 1
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
        """Give memory back after a great many were forgotten: a dict keeps the size it once had."""
        self.nodes = dict(self.nodes)
        self._peak = len(self.nodes)
        trim_memory()

    def reap(self, node: Node | None) -> None:
        """Drop a node that nobody needs, and then its parents as far as the same is true of them."""
        while node is not None and node.lookups == 0 and node.ino != ROOT and self.nodes.get(node.ino) is node:
            if self._park(node) or not self._release(node):
                return
            del self.nodes[node.ino]
            parent, node.parent = node.parent, None
            if parent is not None:
                parent.kids -= 1
            node = parent

    def _park(self, node: Node) -> bool:
        """Keep a directory with its listing past its FORGET, within bounds: reading 40 layers again costs most.

        The oldest go first; a directory that is in use again when its turn comes stays, and is parked anew later.
        """
        if not isinstance(node, Directory) or node.listing is None or node.kids or node.dead or self._evicting:
            return False
        weight = len(node.listing) + PARKED_WEIGHT
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
            if node.kids:
                return False
            self._release_parts(node)
        elif isinstance(node, File) and node.extra is not None:
            if node.extra.opens or node.extra.busy:
                return False
            self._release_file(node, node.extra)
        return True

    def _release_parts(self, node: Directory) -> None:
        for part in node.parts or ():
            if part is not None:
                self._handles.drop(part)
        if node.pinned >= 0 and node.parts:
            held = node.parts[0]
            assert held is not None
            held.tree.close_dir(node.pinned)
            node.pinned = -1
        node.listing = None

    def _release_file(self, node: File, extra: Opened) -> None:
        for fd in extra.retired:
            opened.close(fd)
        extra.retired = []
        if extra.fd >= 0:
            opened.close(extra.fd)
            extra.fd = -1
            self._files.remove(node)
        extra.unpin()
        for parent, _ in extra.aliases:
            parent.kids -= 1
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


class Pool:
    """Bounds the data descriptors that are open at once; the one opened first goes first."""

    __slots__ = ("_files", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._files: dict[File, None] = {}  # in the order of their opening

    def __len__(self) -> int:
        return len(self._files)

    def add(self, node: File) -> None:
        """Note that a file's descriptor was opened; this one stays open now."""
        self._files.pop(node, None)
        for old in list(islice(self._files, max(len(self._files) + 1 - self.limit, 0)))[:64]:
            del self._files[old]
            if not _close_data(old):
                self._files[old] = None
        self._files[node] = None

    def remove(self, node: File) -> None:
        """Note that a file's descriptor was closed."""
        self._files.pop(node, None)


def _close_data(node: File) -> bool:
    """Close a descriptor that can be opened again; False if it must stay."""
    extra = node.extra
    if extra is None or extra.fd < 0:
        return True
    if node.place is None or extra.busy or extra.retired:
        return False
    opened.close(extra.fd)
    extra.fd, extra.writable = -1, False
    return True


def kept(text: bytes) -> int | None:
    """Read a number that an upper kept; None for what can be no node's, or is the root's."""
    number = decimal(text, KEPT_MAX)
    return None if number is None or number < FIRST else number


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
