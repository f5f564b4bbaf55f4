"""Random uppers, layers and images of somebody who means harm, with something outside that must stay as it is.

Whatever they hold, and whatever is exchanged in them meanwhile: each request gets an answer or an errno, nothing
outside is read or changed, and no object answers for another. A seed that fails is an example: SEED=N runs that one.
"""

import os
import random
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from layerfs.errors import LayerfsError
from layerfs.lowers.kinds import open_tree
from layerfs.model import Stack
from layerfs.union.attrs import Change
from layerfs.union.inodes import Directory, File, Node
from layerfs.union.mutate import Caller
from layerfs.union.options import OverrideStat, RedirectDir, UnionOptions
from layerfs.union.setid import Who
from layerfs.union.union import Union
from tests.host import require
from tests.waiting import PATIENCE

SECRET = b"the canary's own words"
SEEDS = [int(os.environ["SEED"])] if "SEED" in os.environ else list(range(60))
STEPS = 60
NAMES = [
    b"a",
    b"b",
    b"c",
    b"d",
    b".wh.a",
    b".wh..wh..opq",
    b".wh.",
    b"n" * 255,
    b"new\nline",
    b"\xff\xfe",
    b".wh..wh.x",
]
PREFIXES = ["trusted.overlay.", "user.overlay."]
KEYS = [
    *(p + k for p in PREFIXES for k in ("redirect", "metacopy", "opaque", "whiteout", "origin", "nlink", "impure")),
    *(p + k for p in PREFIXES for k in ("layerfs.ino", "layerfs.inos")),
    "user.containers.override_stat", "user.fuseoverlayfs.override_stat", "user.fuseoverlayfs.opaque",
    "security.capability", "system.posix_acl_access", "user.plain",
]  # fmt: skip
VALUES = [
    b"", b"y", b"x", b"/", b".", b"..", b"/../outside/canary", b"../outside/canary", b"/a/../../outside/canary", b"/a",
    b"/a/b", b"b", b"/link/canary", b"/c\0d", b"/" + b"n" * 256, b"/a" * 100, b"0:0:4777", b"0:0:6755:char-1-9",
    b"0:0:644:pipe", b"99999999999:0:644", b"0:0:999999999999", b"1:1", b"2:1", b"9" * 40, b"9" * 3000 + b":1",
    b":" * 50, b"\xff" * 20, b"4:0:644:block-99999999999-1", (2).to_bytes(4, "little") + bytes(8 * 5),
]  # fmt: skip


def is_file(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def is_directory(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


def walk(root: Path) -> Iterator[str]:
    """Every path below a directory; pathlib's own search follows symlinks, and stops at one that is too long."""
    for above, names, files in os.walk(root):
        yield from (os.path.join(above, name) for name in (*names, *files))


class Foe:
    """Who made the layers, and goes on changing them."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place = place
        self.random = random.Random(seed)
        self.canary = place / "outside/canary"
        self.roots = [place / name for name in ("l1", "l2", "upper")]

    def build(self) -> None:
        (self.place / "outside").mkdir()
        self.canary.write_bytes(SECRET)
        self.canary.chmod(0o600)
        os.utime(self.canary, ns=(1, 1))
        os.utime(self.canary.parent, ns=(1, 1))
        for root in (*self.roots, self.place / "work"):
            root.mkdir()
        for root in self.roots:
            self.fill(root, 0)
            if self.random.random() < 0.3:
                self.mark(root)
        if self.random.random() < 0.3:  # leftovers
            (self.place / "work/work/1/deep").mkdir(parents=True)
            (self.place / "work/work/1/deep/link").symlink_to(self.canary.parent)
            (self.place / "work/layerfs-links").mkdir(0o700)
            (self.place / "work/layerfs-links/1f-0-0-1f.1").touch()

    def fill(self, at: Path, depth: int) -> None:
        for name in self.random.sample(NAMES, self.random.randint(1, 6)):
            path = at / os.fsdecode(name)
            self.make(path, depth)
            if not path.is_symlink() and self.random.random() < 0.5:
                self.mark(path)

    def make(self, path: Path, depth: int) -> None:
        kind = self.random.choice(["file", "file", "dir", "dir", "link", "fifo", "white", "device", "twin", "sparse"])
        if kind == "dir":
            path.mkdir(self.random.choice([0o755, 0o700, 0o2777, 0o1777]))
            if depth < 3:
                self.fill(path, depth + 1)
        elif kind == "link":
            aims = [str(self.canary), "../" * 4 + "outside/canary", ".", "..", "a", str(self.canary.parent), "x" * 4000]
            path.symlink_to(self.random.choice(aims))
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind in ("white", "device"):
            os.mknod(path, stat.S_IFCHR | 0o666, 0 if kind == "white" else os.makedev(4, 99))
        elif kind == "twin" and (others := [each for each in path.parent.iterdir() if is_file(each)]):
            os.link(others[0], path, follow_symlinks=False)
        else:
            path.write_bytes(self.random.randbytes(self.random.choice([0, 7, 5000])))
            if kind == "sparse":
                os.truncate(path, self.random.choice([1 << 20, 1 << 40]))
            path.chmod(self.random.choice([0o644, 0o4755, 0o6777, 0o000, 0o666]))

    def mark(self, path: Path) -> None:
        for key in self.random.sample(KEYS, 3):
            value = self.random.choice(VALUES)
            if key.endswith("layerfs.ino"):
                value = b"%d:%d" % (path.lstat().st_ino, self.random.choice([1, 2, self.any().lstat().st_ino, 1 << 62]))
            with suppress(OSError):
                os.setxattr(path, key, value, follow_symlinks=False)

    def any(self) -> Path:
        """Some object of some layer."""
        found = self.random.choice(self.roots)
        for _ in range(self.random.randint(0, 3)):
            if not is_directory(found) or not (inside := list(found.iterdir())):
                break
            found = self.random.choice(inside)
        return found

    def exchange(self) -> None:
        """Change something in a layer behind the union's back."""
        path = self.any()
        if path in self.roots:
            return
        with suppress(OSError):
            act = self.random.choice(["remove", "replace", "swap", "mark", "mode", "rename"])
            if act in ("remove", "replace"):
                shutil.rmtree(path) if is_directory(path) else path.unlink()
            if act == "replace":
                self.make(path, 3)
            elif act == "swap":
                other = self.any()
                if other not in self.roots and path not in other.parents and other not in path.parents:
                    path.rename(path.parent / "held")
                    other.rename(path)
                    (path.parent / "held").rename(other)
            elif act == "mark" and not path.is_symlink():
                self.mark(path)
            elif act == "mode" and not path.is_symlink():
                path.chmod(self.random.choice([0o600, 0o4777]))
            elif act == "rename":
                path.rename(path.parent / os.fsdecode(self.random.choice(NAMES)))


class Client:
    """Asks for anything at random; every answer is one, or an OSError."""

    def __init__(self, union: Union, rng: random.Random) -> None:
        self.union, self.random = union, rng
        self.known: list[Node] = [union.root()]

    def step(self) -> None:
        act = self.random.choice(
            [self.look, self.look, self.list, self.read, self.change, self.make, self.take, self.move]
        )
        try:
            act()
        except OSError:
            pass

    def directory(self) -> Directory:
        return self.random.choice([node for node in self.known if isinstance(node, Directory)])

    def node(self) -> Node:
        return self.random.choice(self.known)

    def look(self) -> None:
        parent = self.directory()
        name = self.random.choice([*self.union.names(parent.ino), *NAMES])
        node, _ = self.union.lookup(parent.ino, name)
        self.union.remember(node)
        self.known.append(node)
        for other in self.known:
            assert (other.ino == node.ino) == (other is node)

    def list(self) -> None:
        for name in self.union.names(self.directory().ino):
            assert b"/" not in name

    def read(self) -> None:
        node = self.node()
        self.union.attributes(node.ino)
        for key in self.union.list_xattrs(node.ino):
            with suppress(OSError):
                self.union.get_xattr(node.ino, key)
        if isinstance(node, File) and node.is_symlink:
            self.union.readlink(node.ino)
        elif isinstance(node, File):
            self.union.open_file(node.ino, self.random.choice([os.O_RDONLY, os.O_RDWR]))
            try:
                handle = self.union.data_handle(node.ino)
                data = os.pread(handle, 100, 0) if isinstance(handle, int) else bytes(handle.read(0, 100))
                assert SECRET not in data
            finally:
                self.union.release(node.ino)

    def change(self) -> None:
        node = self.node()
        changes = [
            Change(mode=0o777), Change(uid=1001, gid=1001), Change(atime_ns=5, mtime_ns=5),
            Change(size=3, who=Who.OUTSIDER),
        ]  # fmt: skip
        self.union.set_attributes(node.ino, self.random.choice(changes))
        self.union.set_xattr(node.ino, b"user.plain", b"1")
        self.union.remove_xattr(node.ino, b"user.plain")

    def make(self) -> None:
        parent, name, caller = self.directory().ino, self.random.choice(NAMES), Caller(0, 0, 0o022)
        kind = self.random.choice(["file", "dir", "link", "fifo"])
        if kind == "file":
            node: Node = self.union.create(parent, name, 0o644, caller)
            os.pwrite(self.union.writable_fd(node.ino), b"mine", 0)
            self.union.release(node.ino)
        elif kind == "dir":
            self.union.mkdir(parent, name, 0o755, caller)
        elif kind == "link":
            self.union.symlink(parent, name, b"to", caller)
        else:
            self.union.mknod(parent, name, stat.S_IFIFO | 0o644, 0, caller)

    def take(self) -> None:
        parent = self.directory()
        name = self.random.choice([*self.union.names(parent.ino), b"a"])
        self.random.choice([self.union.unlink, self.union.rmdir])(parent.ino, name)

    def move(self) -> None:
        parent, to = self.directory(), self.directory()
        name = self.random.choice([*self.union.names(parent.ino), b"a"])
        if self.random.random() < 0.3:
            self.union.link(self.node().ino, to.ino, self.random.choice(NAMES))
        else:
            self.union.rename(parent.ino, name, to.ino, self.random.choice(NAMES), self.random.choice([0, 0, 1, 2]))


@contextmanager
def guarded(canary: Path) -> Iterator[None]:
    """Assert that what is outside is as it was."""

    def seen() -> list[object]:
        states = [path.lstat() for path in (canary, canary.parent)]
        return [
            (st.st_mode, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns, st.st_nlink, st.st_ino) for st in states
        ] + [canary.read_bytes(), os.listxattr(canary), os.listdir(canary.parent)]

    before = seen()
    yield
    assert seen() == before


def options_of(rng: random.Random) -> UnionOptions:
    return UnionOptions(
        redirect_dir=rng.choice(list(RedirectDir)),
        metacopy=rng.random() < 0.3,
        userxattr=rng.random() < 0.3,
        override_stat=rng.choice([OverrideStat.OFF, OverrideStat.OFF, OverrideStat.CONTAINERS]),
        volatile=rng.random() < 0.2,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_hostile_layers_and_uppers_harm_nothing(scratch: Path, seed: int) -> None:
    require("root", "user xattrs")
    foe = Foe(scratch, seed)
    foe.build()
    one, two, upper, work = map(os.fsencode, (*foe.roots, scratch / "work"))
    stack = Stack((one, two), upper, work)
    with guarded(foe.canary):
        with suppress(LayerfsError):
            attack(stack, foe)
        shutil.rmtree(scratch / "work")


def attack(stack: Stack, foe: Foe) -> None:
    union = Union.open(stack, options_of(foe.random))
    try:
        union._ov.handles.limit = foe.random.choice([2, 16, 1000])
        client = Client(union, foe.random)
        for _ in range(STEPS):
            client.step()
            if foe.random.random() < 0.3:
                foe.exchange()
    finally:
        union.close()


@pytest.mark.parametrize("seed", SEEDS[:20])
def test_hostile_images_harm_nothing(scratch: Path, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    require("root", "user xattrs", "mksquashfs")
    foe = Foe(scratch, seed)
    foe.build()
    image = scratch / "image"
    plain = ["-noI", "-noD", "-noX", "-noF"] if foe.random.random() < 0.7 else []
    for path in map(Path, walk(foe.roots[0])):
        if is_file(path) and path.lstat().st_size > 1 << 21:
            os.truncate(path, 1 << 21)
    command = ["mksquashfs", str(foe.roots[0]), str(image), "-noappend", "-quiet", "-no-progress", *plain]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    data = bytearray(image.read_bytes())
    for _ in range(foe.random.randint(0, 12)):
        data[foe.random.randrange(96, len(data))] = foe.random.randrange(256)
    image.write_bytes(data)
    top, two, upper, work = map(os.fsencode, (image, *foe.roots[1:], scratch / "work"))
    stack = Stack((top, two), upper, work)
    foe.roots = foe.roots[1:]
    with guarded(foe.canary), suppress(LayerfsError):
        union = Union.open(stack, options_of(foe.random), open_tree=open_tree)
        try:
            client = Client(union, foe.random)
            for _ in range(STEPS):
                client.step()
        finally:
            union.close()
    caplog.clear()  # what is damaged in an image is logged
