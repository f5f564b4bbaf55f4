"""A union over layers made from literals, spoken to by path, as a kernel would: each node is forgotten after its use.

with Box(scratch, {b"a": file(b"1")}) as box:
    box.rename(b"a", b"b")
    assert box.tree() == {b"b": b"1"}
    assert box.again().tree() == {b"b": b"1"}
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

from layerfs.model import Stack
from layerfs.union.attrs import Change
from layerfs.union.inodes import File, Node
from layerfs.union.mutate import Caller
from layerfs.union.options import UnionOptions
from layerfs.union.state import Attributes, Overlay
from layerfs.union.union import Union
from layerfs.union.whiteout import Marks
from tests.oracle.trees import Layer, build
from tests.oracle.trees import Marks as Style

Tree = dict[bytes, object]


class Box:
    """Layers below one directory, top first, and the union of them."""

    def __init__(
        self,
        place: Path,
        *layers: Layer,
        options: UnionOptions | None = None,
        marks: Style = Style.KERNEL,
        prefix: str = "trusted.overlay.",
        upper: Layer | None = None,
        writable: bool = True,
        limit: int = 0,
        owner: tuple[int, int] = (0, 0),
    ) -> None:
        self.place = place
        self.options = options or UnionOptions()
        self.limit = limit
        self.writable = writable
        for index, layer in enumerate(layers, 1):
            build(self.layer(index), _owned(layer, owner), marks, prefix)
        build(self.upper, _owned(upper or {}, owner), marks, prefix)
        os.mkdir(self.work)
        self.stack = Stack(
            tuple(self.layer(index) for index in range(1, len(layers) + 1)),
            self.upper if writable else None,
            self.work if writable else None,
        )
        self.union = self._open()

    @property
    def ov(self) -> Overlay:
        """What is behind the union."""
        return self.union._ov

    @property
    def caller(self) -> Caller:
        """Who runs the test."""
        return me()

    @property
    def marks(self) -> Marks:
        """The marks of the upper; those that it cannot carry may be switched off."""
        assert self.ov.upper is not None
        return self.ov.upper.marks

    def layer(self, index: int) -> bytes:
        """The path of one lower, 1 being the top."""
        return os.fsencode(self.place / f"l{index}")

    @property
    def upper(self) -> bytes:
        return os.fsencode(self.place / "upper")

    @property
    def work(self) -> bytes:
        return os.fsencode(self.place / "work")

    def _open(self) -> Union:
        union = Union.open(self.stack, self.options)
        union._ov.table.parked_limit = 0  # what is forgotten goes now
        if self.limit:
            union._ov.handles.limit = self.limit
            union._ov.files.limit = self.limit
        return union

    def again(self) -> Self:
        """Unmount and mount again."""
        self.union.close()
        self.union = self._open()
        return self

    def close(self) -> None:
        self.union.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def node(self, path: bytes) -> Iterator[Node]:
        """Look a path up, every step remembered until the end."""
        union, seen = self.union, []
        node: Node = union.root()
        try:
            for name in path.split(b"/") if path else ():
                node, _ = union.lookup(node.ino, name)
                union.remember(node)
                seen.append(node)
            yield node
        finally:
            for each in reversed(seen):
                if each.lookups:
                    union._ov.table.forget(each.ino, 1)

    @contextmanager
    def parent(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        above, name = os.path.split(path)
        with self.node(above) as node:
            yield node.ino, name

    def stat(self, path: bytes) -> Attributes:
        with self.node(path) as node:
            return self.union.attributes(node.ino)

    def ino(self, path: bytes) -> int:
        with self.node(path) as node:
            return node.ino

    def names(self, path: bytes = b"") -> list[bytes]:
        with self.node(path) as node:
            return sorted(self.union.names(node.ino))

    def exists(self, path: bytes) -> bool:
        try:
            with self.node(path):
                return True
        except FileNotFoundError:
            return False

    @contextmanager
    def opened(self, path: bytes, flags: int = os.O_RDONLY) -> Iterator[File]:
        with self.node(path) as node:
            file = self.union.open_file(node.ino, flags)
            try:
                yield file
            finally:
                self.union.release(node.ino)

    def read(self, path: bytes) -> bytes:
        with self.opened(path) as node:
            return self._data(node.ino)

    def _data(self, ino: int) -> bytes:
        handle = self.union.data_handle(ino)
        return os.pread(handle, 1 << 20, 0) if isinstance(handle, int) else bytes(handle.read(0, 1 << 20))

    def data_fd(self, ino: int) -> int:
        """The descriptor that an open file of a directory is read from."""
        handle = self.union.data_handle(ino)
        assert isinstance(handle, int)
        return handle

    def write(self, path: bytes, data: bytes, offset: int = 0) -> None:
        with self.opened(path, os.O_RDWR) as node:
            os.pwrite(self.union.writable_fd(node.ino), data, offset)

    def create(self, path: bytes, data: bytes = b"", mode: int = 0o644, caller: Caller | None = None) -> None:
        with self.parent(path) as (parent, name):
            node = self.union.create(parent, name, mode, caller or me())
            os.pwrite(self.union.writable_fd(node.ino), data, 0)
            self.union.release(node.ino)

    def mkdir(self, path: bytes, mode: int = 0o755, caller: Caller | None = None) -> None:
        with self.parent(path) as (parent, name):
            self.done(self.union.mkdir(parent, name, mode, caller or me()))

    def mknod(self, path: bytes, mode: int, rdev: int = 0) -> None:
        with self.parent(path) as (parent, name):
            self.done(self.union.mknod(parent, name, mode, rdev, me()))

    def symlink(self, target: bytes, path: bytes) -> None:
        with self.parent(path) as (parent, name):
            self.done(self.union.symlink(parent, name, target, me()))

    def done(self, node: Node) -> None:
        """Forget a node that was just made."""
        self.ov.table.reap(node)

    def link(self, old: bytes, new: bytes) -> None:
        with self.node(old) as node, self.parent(new) as (parent, name):
            self.union.link(node.ino, parent, name)

    def unlink(self, path: bytes) -> None:
        with self.parent(path) as (parent, name):
            self.union.unlink(parent, name)

    def rmdir(self, path: bytes) -> None:
        with self.parent(path) as (parent, name):
            self.union.rmdir(parent, name)

    def rename(self, old: bytes, new: bytes, flags: int = 0) -> None:
        with self.parent(old) as (parent, name), self.parent(new) as (to, other):
            self.union.rename(parent, name, to, other, flags)

    def change(self, path: bytes, change: Change) -> Attributes:
        with self.node(path) as node:
            return self.union.set_attributes(node.ino, change)

    def tree(self, path: bytes = b"") -> Tree:
        """All that is visible: file contents, symlink targets, `dict` for a directory that is empty, else its names."""
        found: Tree = {}
        with self.node(path) as node:
            self._read(node, b"", found)
        return found

    def _read(self, directory: Node, below: bytes, found: Tree) -> None:
        for name in sorted(self.union.names(directory.ino)):
            node, st = self.union.lookup(directory.ino, name)
            self.union.remember(node)
            path = below + name
            if stat.S_ISDIR(st.st_mode):
                found[path] = "dir"
                self._read(node, path + b"/", found)
            elif stat.S_ISLNK(st.st_mode):
                found[path] = ("link", self.union.readlink(node.ino))
            elif stat.S_ISREG(st.st_mode):
                self.union.open_file(node.ino, os.O_RDONLY)
                found[path] = self._data(node.ino)
                self.union.release(node.ino)
            else:
                found[path] = (stat.filemode(st.st_mode)[0], st.st_rdev)
            self.union.forget(node.ino, 1)

    def numbers(self, path: bytes = b"") -> dict[bytes, int]:
        """The number of every name."""
        return {name: self.ino(os.path.join(path, name)) for name in self.tree(path)}

    def is_clean(self) -> bool:
        """Whether nothing is remembered but the root."""
        return len(self.ov.table) == 1


def _owned(layer: Layer, owner: tuple[int, int]) -> Layer:
    """The same layer, of somebody else's."""
    if owner == (0, 0):
        return layer
    return {path: replace(node, uid=owner[0], gid=owner[1]) for path, node in layer.items()}


def me() -> Caller:
    """Who runs the tests, with the usual umask."""
    return Caller(os.geteuid(), os.getegid(), 0o022)


def marks_of(root: bytes) -> dict[bytes, str]:
    """What a layer holds on disk that is a mark: whiteouts, opaque directories, redirects."""
    found = {}
    for above, names, files in os.walk(root):
        for name in (*names, *files):
            full = os.path.join(above, name)
            mark = _mark(full)
            if mark:
                found[os.path.relpath(full, root)] = mark
    return found


def _mark(full: bytes) -> str:
    st = os.lstat(full)
    if stat.S_ISCHR(st.st_mode) and st.st_rdev == 0:
        return "whiteout"
    if os.path.basename(full).startswith(b".wh."):
        return "file"
    if not stat.S_ISDIR(st.st_mode):
        return ""
    for name in os.listxattr(full):
        if name.endswith("overlay.redirect"):
            return "redirect " + os.fsdecode(os.getxattr(full, name))
        if name.endswith("overlay.opaque"):
            return "opaque " + os.fsdecode(os.getxattr(full, name))
    return ""


@contextmanager
def as_person(uid: int, gid: int) -> Iterator[None]:
    """Be somebody else, effectively; as that person, nothing of root's is left but the way back."""
    groups = os.getgroups()
    os.setgroups([gid])
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
