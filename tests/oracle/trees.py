"""Layers as literals, built on disk, and whole trees read back as comparable values."""

import errno
import os
import re
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NamedTuple

OLD = 1_000_000_000_123_456_789  # ns: the mtime of everything in a layer that says nothing else
RECENT = 1_600_000_000  # s: no literal lies between this and NOW_END, so a time in there means "now"
NOW_END = 4_000_000_000


class Kind(Enum):
    """What a literal makes; the value is repr's one letter."""

    DIR = "D"
    FILE = "F"
    SYMLINK = "L"
    FIFO = "P"
    SOCKET = "S"
    CHAR = "C"
    BLOCK = "B"
    HARDLINK = "H"  # data is the path of an earlier name in the same layer
    WHITEOUT = "W"


class Marks(Enum):
    """How whiteouts and opaque directories are written into a layer."""

    KERNEL = "kernel"  # char 0/0, overlay.opaque=y (trusted. or user.)
    XATTR = "xattr"  # overlay.whiteout in a directory with opaque=x
    OCI = "oci"  # .wh.NAME, .wh..wh..opq
    FUSE_OVERLAYFS = "fuse-overlayfs"  # char 0/0, user.fuseoverlayfs.opaque=y

    def __repr__(self) -> str:
        return f"Marks.{self.name}"  # so that a failing example can be pasted


@dataclass(frozen=True)
class Node:
    """One name of a layer."""

    kind: Kind
    data: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    rdev: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[str, bytes], ...] = ()
    mtime: int = OLD
    opaque: bool = False

    def __repr__(self) -> str:
        shown = [f"Kind.{self.kind.name}"]
        for name, default in _DEFAULTS:
            value = getattr(self, name)
            if value != default:
                shown.append(f"{name}={oct(value) if name == 'mode' else repr(value)}")
        return f"Node({', '.join(shown)})"


_DEFAULTS = [(f.name, f.default) for f in Node.__dataclass_fields__.values() if f.name != "kind"]

Layer = Mapping[bytes, Node]


def expand(data: bytes) -> bytes:
    """Content of a literal: b"@N" stands for N bytes, zero in the middle, so that reports stay short."""
    if not re.fullmatch(rb"@[0-9]+", data):
        return data
    size = int(data[1:])
    return b"start".ljust(size - 3, b"\0") + b"end"


def directory(mode: int = 0o755, *, opaque: bool = False, **rest: object) -> Node:
    return replace(Node(Kind.DIR, mode=mode, opaque=opaque), **rest)  # type: ignore[arg-type]


def file(data: bytes = b"", mode: int = 0o644, **rest: object) -> Node:
    return replace(Node(Kind.FILE, data, mode), **rest)  # type: ignore[arg-type]


def symlink(target: bytes) -> Node:
    return Node(Kind.SYMLINK, target, 0o777)


def hardlink(first: bytes) -> Node:
    return Node(Kind.HARDLINK, first)


WHITEOUT = Node(Kind.WHITEOUT)


def normal(layer: Layer) -> dict[bytes, Node]:
    """The layer as it can be made: with parents, without names below what is no directory."""
    made: dict[bytes, Node] = {}
    for path in sorted(layer):
        node = layer[path]
        if node.kind is Kind.HARDLINK and not _is_linkable(made.get(node.data)):
            continue
        if _add_parents(path, made):
            made[path] = node
    return made


def _is_linkable(first: Node | None) -> bool:
    return first is not None and first.kind not in (Kind.DIR, Kind.WHITEOUT)


def _add_parents(path: bytes, made: dict[bytes, Node]) -> bool:
    """Make sure of the directories above `path`; False if one of them is something else."""
    parent = os.path.dirname(path)
    if not parent:
        return True
    if parent not in made:
        if not _add_parents(parent, made):
            return False
        made[parent] = directory()
    return made[parent].kind is Kind.DIR


def build(root: bytes, layer: Layer, marks: Marks = Marks.KERNEL, prefix: str = "trusted.overlay.") -> None:
    """Make `layer` under the new directory `root`."""
    os.mkdir(root)
    made = normal(layer)
    if marks is Marks.XATTR:  # an opaque directory cannot say that it has any, and the kernel makes none there
        made = {path: node for path, node in made.items() if not _is_hidden_twice(path, node, made)}
    for path in sorted(made):
        _make(root, path, made[path], marks)
    for path in sorted(made, reverse=True):
        _finish(os.path.join(root, path), made[path], marks, prefix)
    if marks is Marks.XATTR:
        _mark_directories(root, made, prefix)
    os.chmod(root, 0o755)
    os.utime(root, ns=(OLD, OLD))


def _is_hidden_twice(path: bytes, node: Node, made: Mapping[bytes, Node]) -> bool:
    parent = os.path.dirname(path)
    return node.kind is Kind.WHITEOUT and bool(parent) and made[parent].opaque


def _make(root: bytes, path: bytes, node: Node, marks: Marks) -> None:
    """Create the bare node."""
    full = os.path.join(root, path)
    match node.kind:
        case Kind.DIR:
            os.mkdir(full)
        case Kind.FILE:
            with open(full, "xb") as out:
                out.write(expand(node.data))
        case Kind.SYMLINK:
            os.symlink(node.data or b".", full)
        case Kind.SOCKET:
            _make_socket(full)
        case Kind.HARDLINK:
            os.link(os.path.join(root, node.data), full, follow_symlinks=False)
        case Kind.WHITEOUT:
            _make_whiteout(full, marks)
        case _:
            os.mknod(full, 0o600 | _TYPES[node.kind], os.makedev(*node.rdev))


_TYPES = {Kind.FIFO: stat.S_IFIFO, Kind.CHAR: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK}


def _make_socket(full: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(os.path.dirname(full), os.O_PATH | os.O_DIRECTORY)
        try:  # sun_path holds 108 bytes
            made.bind(b"/proc/self/fd/%d/" % here + os.path.basename(full))
        finally:
            os.close(here)


def _make_whiteout(full: bytes, marks: Marks) -> None:
    if marks is Marks.OCI:
        full = os.path.join(os.path.dirname(full), b".wh." + os.path.basename(full))
    if marks in (Marks.OCI, Marks.XATTR):
        with open(full, "xb"):
            return
    os.mknod(full, stat.S_IFCHR, 0)


def _finish(full: bytes, node: Node, marks: Marks, prefix: str) -> None:
    """Owner (0 is whoever builds), mode, xattrs and times; children are finished before their directory."""
    if node.kind is Kind.HARDLINK:
        return
    if node.kind is Kind.WHITEOUT:
        if marks is Marks.XATTR:
            os.setxattr(full, prefix + "whiteout", b"y")
        return
    if node.opaque:
        _make_opaque(full, marks, prefix)
    os.chown(full, node.uid or os.geteuid(), node.gid or os.getegid(), follow_symlinks=False)
    if node.kind is not Kind.SYMLINK:
        os.chmod(full, node.mode)
    for name, value in node.xattrs:
        try:
            os.setxattr(full, name, value, follow_symlinks=False)
        except OSError as error:  # user.* on symlinks and devices, trusted.* without root: a layer cannot hold it
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
                raise
    os.utime(full, ns=(node.mtime, node.mtime), follow_symlinks=False)


def _make_opaque(full: bytes, marks: Marks, prefix: str) -> None:
    if marks is Marks.OCI:
        with open(os.path.join(full, b".wh..wh..opq"), "xb"):
            return
    os.setxattr(full, "user.fuseoverlayfs.opaque" if marks is Marks.FUSE_OVERLAYFS else prefix + "opaque", b"y")


def _mark_directories(root: bytes, made: Mapping[bytes, Node], prefix: str) -> None:
    """opaque=x says "look for xattr whiteouts in here" (overlayfs.rst; kernel 6.7)."""
    for path, node in made.items():
        if node.kind is Kind.WHITEOUT:
            os.setxattr(os.path.join(root, os.path.dirname(path)), prefix + "opaque", b"x")


def prune(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Leave out the whiteouts that hide nothing: kernel overlayfs lists them, then says ENOENT.

    It filters only merged directories (fs/overlayfs/readdir.c); a layer that it wrote itself never has them.
    """
    pruned: list[Layer] = []
    below: dict[bytes, Node] = {}
    for layer in map(normal, reversed(layers)):
        kept = {
            path: node
            for path, node in layer.items()
            if node.kind is not Kind.WHITEOUT or (path in below and _merges(path, layer, below))
        }
        pruned.append(kept)
        below = _merge(kept, below)
    return tuple(reversed(pruned))


def _merges(path: bytes, layer: Layer, below: Layer) -> bool:
    """Whether every directory above `path` merges this layer with what is below."""
    while path := os.path.dirname(path):
        here, there = layer.get(path, directory()), below.get(path)
        if here.kind is not Kind.DIR or here.opaque or there is None or there.kind is not Kind.DIR:
            return False
    return True


def _merge(layer: Layer, below: Layer) -> dict[bytes, Node]:
    """What is visible with `layer` on top of `below`."""
    merged = dict(below)
    for path in sorted(layer):
        node = layer[path]
        old = merged.get(path, node)
        if node.kind is not Kind.DIR or node.opaque or old.kind is not Kind.DIR:
            for hidden in [name for name in merged if name == path or name.startswith(path + b"/")]:
                del merged[hidden]
        if node.kind is not Kind.WHITEOUT:
            merged[path] = node
    return merged


class Record(NamedTuple):
    """Everything about one name that two mounts must agree upon."""

    type: str
    mode: str
    uid: int
    gid: int
    size: int | None  # of what is not a directory
    nlink: int | None  # likewise
    rdev: int
    content: bytes
    mtime: int | str  # ns, or "now" for what the run itself set
    xattrs: tuple[tuple[str, bytes], ...]


@dataclass
class Tree:
    """A whole tree; inode numbers stand aside because two mounts need not agree on them."""

    records: dict[bytes, Record] = field(default_factory=dict)
    numbers: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # path -> st_ino, d_ino

    def without_links(self) -> "Tree":
        """The same tree with no link counts."""
        return Tree({path: record._replace(nlink=None) for path, record in self.records.items()}, self.numbers)

    def with_visible_links(self, other: "Tree") -> "Tree":
        """The same tree, but for link counts that are lower in the other: known.py, "links that a layer hides"."""
        records = dict(self.records)
        for path, record in self.records.items():
            links = other.records[path].nlink if path in other.records else None
            if links is not None and record.nlink is not None and record.nlink > links > 0:
                records[path] = record._replace(nlink=links)
        return Tree(records, self.numbers)

    def without_directory_times(self) -> "Tree":
        """The same tree, the times of its directories left out."""
        return Tree(
            {path: record._replace(mtime=0) if record.type == "d" else record for path, record in self.records.items()},
            self.numbers,
        )


def read_tree(root: bytes = b".") -> Tree:
    """Walk `root` and read everything in it."""
    tree = Tree()
    top = os.lstat(root)
    tree.records[b""] = read_record(root, top)
    _read_directory(root, b"", tree)
    return tree


def _read_directory(root: bytes, below: bytes, tree: Tree) -> None:
    with os.scandir(os.path.join(root, below)) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = os.path.join(below, entry.name)
        full = os.path.join(root, path)
        now = os.lstat(full)
        tree.records[path] = read_record(full, now)
        tree.numbers[path] = (now.st_ino, entry.inode())
        if stat.S_ISDIR(now.st_mode):
            _read_directory(root, path, tree)


def read_record(full: bytes, now: os.stat_result) -> Record:
    """Read one name's record; `now` is its lstat."""
    is_dir = stat.S_ISDIR(now.st_mode)
    return Record(
        type=stat.filemode(now.st_mode)[0],
        mode=oct(stat.S_IMODE(now.st_mode)),
        uid=now.st_uid,
        gid=now.st_gid,
        size=None if is_dir else now.st_size,
        nlink=None if is_dir else now.st_nlink,
        rdev=now.st_rdev,
        content=_read_content(full, now),
        mtime=shown_time(now.st_mtime_ns),
        xattrs=read_xattrs(full),
    )


def shown_time(nanoseconds: int) -> int | str:
    """Literal times are compared exactly; those of this century's clock are only "now"."""
    return "now" if RECENT * 10**9 <= nanoseconds < NOW_END * 10**9 else nanoseconds


def _read_content(full: bytes, now: os.stat_result) -> bytes:
    if stat.S_ISLNK(now.st_mode):
        return os.readlink(full)
    if stat.S_ISREG(now.st_mode):
        with open(full, "rb") as source:
            return source.read()
    return b""


def read_xattrs(full: bytes) -> tuple[tuple[str, bytes], ...]:
    """All extended attributes, sorted; the name's own, also of a symlink."""
    try:
        names = sorted(os.listxattr(full, follow_symlinks=False))
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:  # the kernel says so of an image in which nothing has any
            raise
        return ()
    return tuple((name, os.getxattr(full, name, follow_symlinks=False)) for name in names)


def differences(expected: Tree, actual: Tree) -> list[str]:
    """One line for each field of each path that differs."""
    lines = []
    for path in sorted(expected.records.keys() | actual.records.keys()):
        one, two = expected.records.get(path), actual.records.get(path)
        if one is None or two is None:
            lines.append(f"{path!r}: expected {one}, got {two}")
            continue
        for name, left, right in zip(Record._fields, one, two, strict=True):
            if left != right:
                lines.append(f"{path!r}: {name}: expected {left!r}, got {right!r}")
    return lines
