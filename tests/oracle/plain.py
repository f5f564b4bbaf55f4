"""The union without FUSE as a subject: operations by path on `layerfs.union.union.Union`, as the kernel would call it.

What the kernel decides by itself (paths, symlinks in them, types, permissions) is not asked of the union: the paths
come resolved, and only what kernel overlayfs performed, or refused for what only a union knows, is performed.
"""

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from layerfs.model import Stack
from layerfs.union.attrs import Change
from layerfs.union.inodes import Node
from layerfs.union.mutate import Caller
from layerfs.union.options import UnionOptions
from layerfs.union.state import Attributes
from layerfs.union.union import Union
from tests.oracle.operations import Actor
from tests.oracle.subjects import Place
from tests.oracle.trees import Record, Tree, expand, shown_time

ROOT = Caller(0, 0)
DECIDED_BY_THE_UNION = {"ENOTEMPTY", "EEXIST", "ENODATA"}
OPERATIONS = {"put", "create", "append", "truncate", "mkdir", "rmdir", "unlink", "rename", "link", "symlink", "mknod"}
OPERATIONS |= {"chmod", "chown", "utimens", "setxattr", "removexattr", "getxattr", "readdir", "readlink"}
FOLLOWING = {"put", "append", "truncate", "chmod", "readdir"}  # a symlink as the last name


class UnionActor(Actor):
    """Performs operations on a union that this process has opened."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.union = Union.open(Stack(place.lowers, place.upper, place.work), UnionOptions())

    def close(self) -> None:
        self.union.close()

    @contextmanager
    def node(self, path: bytes) -> Iterator[Node]:
        """Look a path up, every step remembered until the end, as the kernel does."""
        held: list[Node] = []
        node: Node = self.union.root()
        try:
            for name in path.split(b"/") if path else ():
                node, _ = self.union.lookup(node.ino, name)
                self.union.remember(node)
                held.append(node)
            yield node
        finally:
            for each in reversed(held):
                self.union.forget(each.ino, 1)

    @contextmanager
    def parent(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        above, name = os.path.split(path)
        with self.node(above) as node:
            yield node.ino, name

    def _done(self, node: Node) -> None:
        """Take the lookup that made the node, and give it back."""
        self.union.remember(node)
        self.union.forget(node.ino, 1)

    def _store(self, path: bytes, data: bytes, offset: int | None) -> int:
        with self.node(path) as node:
            self.union.open_file(node.ino, os.O_WRONLY)
            at = self.union.attributes(node.ino).st_size if offset is None else offset
            written = os.pwrite(self.union.writable_fd(node.ino), expand(data), at)
            self.union.release(node.ino)
            return written

    def _change(self, path: bytes, change: Change) -> None:
        with self.node(path) as node:
            self.union.set_attributes(node.ino, change)

    def do_create(self, path: bytes, data: bytes) -> Any:
        with self.parent(path) as (parent, name):
            node = self.union.create(parent, name, 0o666, ROOT)
            self.union.remember(node)
            written = os.pwrite(self.union.writable_fd(node.ino), expand(data), 0)
            self.union.release(node.ino)
            self.union.forget(node.ino, 1)
            return written

    def do_put(self, path: bytes, data: bytes) -> Any:
        try:
            self.do_truncate(path, 0)
        except FileNotFoundError:
            return self.do_create(path, data)
        return self._store(path, data, 0)

    def do_append(self, path: bytes, data: bytes) -> Any:
        return self._store(path, data, None)

    def do_truncate(self, path: bytes, size: int) -> None:
        self._change(path, Change(size=size, mtime_ns=time.time_ns()))

    def do_mkdir(self, path: bytes, mode: int) -> None:
        with self.parent(path) as (parent, name):
            self._done(self.union.mkdir(parent, name, mode & 0o1777, ROOT))

    def do_rmdir(self, path: bytes) -> None:
        with self.parent(path) as (parent, name):
            self.union.rmdir(parent, name)

    def do_unlink(self, path: bytes) -> None:
        with self.parent(path) as (parent, name):
            self.union.unlink(parent, name)

    def do_rename(self, old: bytes, new: bytes, flags: int) -> None:
        with self.parent(old) as (parent, name), self.parent(new) as (to, other):
            self.union.rename(parent, name, to, other, flags)

    def do_link(self, old: bytes, new: bytes) -> None:
        with self.node(old) as node, self.parent(new) as (parent, name):
            self.union.link(node.ino, parent, name)

    def do_symlink(self, target: bytes, path: bytes) -> None:
        with self.parent(path) as (parent, name):
            self._done(self.union.symlink(parent, name, target, ROOT))

    def do_mknod(self, path: bytes, mode: int, major: int, minor: int) -> None:
        rdev = os.makedev(major, minor) if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0
        with self.parent(path) as (parent, name):
            node = self.union.mknod(parent, name, mode, rdev, ROOT)
            if stat.S_ISREG(mode):
                self.union.release(node.ino)  # made open, as by CREATE
            self._done(node)

    def do_chmod(self, path: bytes, mode: int) -> None:
        self._change(path, Change(mode=mode))

    def do_chown(self, path: bytes, uid: int, gid: int) -> None:
        self._change(path, Change(uid=None if uid < 0 else uid, gid=None if gid < 0 else gid))

    def do_utimens(self, path: bytes, nanoseconds: int) -> None:
        self._change(path, Change(atime_ns=nanoseconds, mtime_ns=nanoseconds))

    def do_setxattr(self, path: bytes, name: str, value: bytes, flags: int) -> None:
        with self.node(path) as node:
            self.union.set_xattr(node.ino, name.encode(), value)

    def do_removexattr(self, path: bytes, name: str) -> None:
        with self.node(path) as node:
            self.union.remove_xattr(node.ino, name.encode())

    def do_getxattr(self, path: bytes, name: str) -> bytes:
        with self.node(path) as node:
            return self.union.get_xattr(node.ino, name.encode())

    def do_readdir(self, path: bytes) -> Any:
        with self.node(path) as node:
            found = [(name, self.union.lookup(node.ino, name)) for name in self.union.names(node.ino)]
            return sorted((name, stat.S_ISDIR(st.st_mode)) for name, (_, st) in found)

    def do_readlink(self, path: bytes) -> bytes:
        with self.node(path) as node:
            return self.union.readlink(node.ino)

    def do_tree(self) -> Tree:
        tree = Tree()
        root = self.union.root()
        tree.records[b""] = self._record(root, self.union.attributes(root.ino))
        self._read(root, b"", tree)
        return tree

    def _read(self, directory: Node, below: bytes, tree: Tree) -> None:
        for name in self.union.names(directory.ino):
            node, st = self.union.lookup(directory.ino, name)
            self.union.remember(node)
            path = os.path.join(below, name)
            tree.records[path] = self._record(node, st)
            tree.numbers[path] = (node.ino, node.ino)
            if stat.S_ISDIR(st.st_mode):
                self._read(node, path, tree)
            self.union.forget(node.ino, 1)

    def _record(self, node: Node, st: Attributes) -> Record:
        is_dir = stat.S_ISDIR(st.st_mode)
        names = sorted(self.union.list_xattrs(node.ino))
        return Record(
            type=stat.filemode(st.st_mode)[0],
            mode=oct(stat.S_IMODE(st.st_mode)),
            uid=st.st_uid,
            gid=st.st_gid,
            size=None if is_dir else st.st_size,
            nlink=None if is_dir else st.st_nlink,
            rdev=st.st_rdev,
            content=self._content(node, st),
            mtime=shown_time(st.st_mtime_ns),
            xattrs=tuple((os.fsdecode(name), self.union.get_xattr(node.ino, name)) for name in names),
        )

    def _content(self, node: Node, st: Attributes) -> bytes:
        if stat.S_ISLNK(st.st_mode):
            return self.union.readlink(node.ino)
        if not stat.S_ISREG(st.st_mode):
            return b""
        self.union.open_file(node.ino, os.O_RDONLY)
        handle = self.union.data_handle(node.ino)
        assert isinstance(handle, int)
        data = os.pread(handle, st.st_size, 0)
        self.union.release(node.ino)
        return data
