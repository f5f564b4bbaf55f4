"""Whoever owns an upper exchanges what is in it below a running mount: nothing is served, or changed, in its place."""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerfs.union.attrs import Change
from layerfs.union.inodes import Directory
from layerfs.union.setid import Who
from tests.oracle.trees import Layer, directory, file
from tests.oracle.trees import symlink as link
from tests.union.box import Box

SECRET = b"root's alone"


@pytest.fixture
def outside(scratch: Path) -> Iterator[Path]:
    """A file beside the layers, which must stay as it is."""
    place = scratch / "outside"
    place.write_bytes(SECRET)
    place.chmod(0o600)
    os.utime(place, ns=(1, 1))
    before = place.stat()
    yield place
    after = place.stat()
    for key in ("st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns", "st_nlink"):
        assert getattr(after, key) == getattr(before, key), key
    assert (place.read_bytes(), os.listxattr(place)) == (SECRET, [])


def symlink(name: Path, outside: Path) -> None:
    name.symlink_to(outside)


def other_file(name: Path, outside: Path) -> None:
    shutil.copy2(outside, name)
    os.setxattr(name, "user.mine", SECRET)
    os.setxattr(name, "trusted.mine", SECRET)


def fifo(name: Path, _: Path) -> None:
    os.mkfifo(name, 0o666)


def device(name: Path, _: Path) -> None:
    os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(4, 99))


def tree(name: Path, outside: Path) -> None:
    name.mkdir()
    shutil.copy2(outside, name / "inside")


EXCHANGES = [symlink, other_file, fifo, device, tree]
Act = Callable[[Box, int], object]
ACTS: dict[str, Act] = {
    "open": lambda box, ino: box.union.open_file(ino, os.O_RDONLY),
    "open to write": lambda box, ino: box.union.open_file(ino, os.O_RDWR),
    "open, cut off": lambda box, ino: box.union.open_file(ino, os.O_WRONLY | os.O_TRUNC),
    "truncate": lambda box, ino: box.union.set_attributes(ino, Change(size=0)),
    "chmod": lambda box, ino: box.union.set_attributes(ino, Change(mode=0o666)),
    "chown": lambda box, ino: box.union.set_attributes(ino, Change(uid=1, gid=1)),
    "utime": lambda box, ino: box.union.set_attributes(ino, Change(atime_ns=5, mtime_ns=5)),
    "setxattr": lambda box, ino: box.union.set_xattr(ino, b"user.a", b"1"),
    "removexattr": lambda box, ino: box.union.remove_xattr(ino, b"user.mine"),
    "getxattr": lambda box, ino: box.union.get_xattr(ino, b"user.mine"),
    "getxattr of root": lambda box, ino: box.union.get_xattr(ino, b"trusted.mine"),
    "listxattr": lambda box, ino: box.union.list_xattrs(ino),
    "stat": lambda box, ino: box.union.attributes(ino),
}  # fmt: skip


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("where", ["upper", "lower"])
def test_a_name_that_leads_elsewhere_is_stale(
    scratch: Path, outside: Path, require: Callable[..., None], where: str, exchange: Callable[..., None], act: str
) -> None:
    """chmod through the mount changed root's file, to which the user had made his a symlink."""
    require("root", "user xattrs")
    layer: Layer = {b"f": file(b"mine", 0o666, xattrs=(("user.mine", b"1"),))}
    with Box(scratch, *([{}] if where == "upper" else [layer]), upper=layer if where == "upper" else {}) as box:
        name = Path(os.fsdecode(box.upper if where == "upper" else box.layer(1))) / "f"
        with box.node(b"f") as node:
            name.unlink()
            exchange(name, outside)
            before = name.lstat()
            with pytest.raises(OSError) as caught:
                ACTS[act](box, node.ino)
            assert caught.value.errno == errno.ESTALE
        after = name.lstat()
        assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (before.st_mode, before.st_uid, before.st_mtime_ns)
        assert stat.S_IFMT(box.stat(b"f").st_mode) == stat.S_IFMT(before.st_mode)  # looked up anew it is what it is


LINK_ACTS: dict[str, Act] = {
    "readlink": lambda box, ino: box.union.readlink(ino),
    "chown": lambda box, ino: box.union.set_attributes(ino, Change(uid=0, gid=0)),
    "listxattr": lambda box, ino: box.union.list_xattrs(ino),
}


@pytest.mark.parametrize("act", LINK_ACTS)
@pytest.mark.parametrize("where", ["upper", "lower"])
def test_a_symlink_that_is_another_one_by_now_is_stale(scratch: Path, where: str, act: str) -> None:
    layer: Layer = {b"s": link(b"mine"), b"other": link(b"other")}
    with Box(scratch, *([{}] if where == "upper" else [layer]), upper=layer if where == "upper" else {}) as box:
        top = Path(os.fsdecode(box.upper if where == "upper" else box.layer(1)))
        with box.node(b"s") as node:
            assert box.union.readlink(node.ino) == b"mine"
            (top / "other").rename(top / "s")
            with pytest.raises(OSError, match="Stale"):
                LINK_ACTS[act](box, node.ino)
        with box.node(b"s") as now:
            assert box.union.readlink(now.ino) == b"other"


def test_an_open_file_is_changed_by_its_descriptor_if_it_is_as_the_kernel_knows_it(scratch: Path) -> None:
    with Box(scratch, {}, upper={b"f": file(b"mine", 0o600)}) as box:
        name, old = Path(os.fsdecode(box.upper)) / "f", Path(os.fsdecode(box.upper)) / "old"
        with box.node(b"f") as node:
            box.union.open_file(node.ino, os.O_RDWR)
            name.rename(old)
            name.write_bytes(SECRET)
            name.chmod(0o600)
            with pytest.raises(OSError, match="Stale"):
                box.union.set_attributes(node.ino, Change(mode=0o640))
            assert [stat.S_IMODE(each.stat().st_mode) for each in (old, name)] == [0o640, 0o600]
            name.unlink()
            old.rename(name)
            box.union.attributes(node.ino)
            name.chmod(0o604)  # as if it were another's by now
            with pytest.raises(OSError, match="Stale"):
                box.union.set_attributes(node.ino, Change(mode=0o666))
            assert stat.S_IMODE(name.stat().st_mode) == 0o604
            box.union.release(node.ino)


@pytest.mark.parametrize("where", ["upper", "lower"])
def test_an_inode_number_that_is_used_again_is_no_identity(scratch: Path, where: str) -> None:
    """A filesystem gives it to the next file: another user's private one was read with the permissions of the old."""
    layer: Layer = {b"f": file(b"mine", 0o666)}
    with Box(scratch, *([{}] if where == "upper" else [layer]), upper=layer if where == "upper" else {}) as box:
        name = os.path.join(box.upper if where == "upper" else box.layer(1), b"f")
        with box.node(b"f") as node:
            os.chmod(name, 0o600)  # as if it were the private one
            with pytest.raises(OSError, match="Stale"):
                box.union.open_file(node.ino, os.O_RDONLY)
            assert stat.S_IMODE(box.stat(b"f").st_mode) == 0o600  # looked up anew, the permissions are the right ones
            box.union.open_file(node.ino, os.O_RDONLY)
            box.union.release(node.ino)


@pytest.mark.parametrize("where", ["upper", "lower"])
@pytest.mark.parametrize("opened", [True, False])
def test_a_directory_that_leads_elsewhere_is_stale(scratch: Path, where: str, opened: bool) -> None:
    layer: Layer = {b"d/open": file(), b"private": directory(0o700), b"private/key": file(SECRET)}
    with Box(scratch, *([{}] if where == "upper" else [layer]), upper=layer if where == "upper" else {}) as box:
        top = Path(os.fsdecode(box.upper if where == "upper" else box.layer(1)))
        with box.node(b"d") as node:
            if opened:
                assert box.union.names(node.ino) == [b"open"]
                assert isinstance(node, Directory)
                box.union._ov.handles.close()  # as when many others were opened
                node.listing = None
            (top / "d").rename(top / "old")
            (top / "private").rename(top / "d")
            if where == "upper" and not opened:  # it was opened as it was looked up: it is the old one still
                assert box.union.names(node.ino) == [b"open"]
            else:
                with pytest.raises(OSError, match="Stale"):
                    box.union.names(node.ino)
            with pytest.raises(OSError, match=r"Stale|No such"):
                box.union.lookup(node.ino, b"key")
            with box.node(b"d") as now:
                assert now is not node
                assert now.ino != node.ino
                assert stat.S_IMODE(box.union.attributes(now.ino).st_mode) == 0o700
                assert box.union.names(now.ino) == [b"key"]


def test_what_is_done_to_a_file_is_no_exchange(scratch: Path, require: Callable[..., None]) -> None:
    require("root", "user xattrs")
    upper: Layer = {b"f": file(b"mine", 0o4755), b"d": directory()}
    with Box(scratch, {b"low": file(b"low"), b"e/x": file()}, upper=upper) as box:
        for path in (b"f", b"low"):
            with box.node(path) as node:
                for change in (Change(mode=0o640), Change(uid=3, gid=4), Change(size=2, who=Who.MEMBER)):
                    box.union.set_attributes(node.ino, change)
                box.union.set_xattr(node.ino, b"system.posix_acl_access", acl())
                box.union.open_file(node.ino, os.O_RDWR)
                box.union.drop_sxid(node.ino, Who.MEMBER)
                box.union.release(node.ino)
                box.union.open_file(node.ino, os.O_RDONLY)
                box.union.release(node.ino)
        box.union._ov.handles.limit = 1
        for path in (b"d", b"e"):
            with box.node(path) as node:
                box.union.set_attributes(node.ino, Change(mode=0o700, uid=5))
                box.union.set_xattr(node.ino, b"system.posix_acl_access", acl())
                box.union._ov.handles.close()
                assert isinstance(node, Directory)
                node.listing = None
                box.union.names(node.ino)


def acl() -> bytes:
    """user::rw-, user:7:r--, group::r--, mask::rw-, other::--- (linux/posix_acl_xattr.h)."""
    entries = ((1, 6, 0xFFFFFFFF), (2, 4, 7), (4, 4, 0xFFFFFFFF), (16, 6, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF))
    fields = b"".join(
        tag.to_bytes(2, "little") + permission.to_bytes(2, "little") + who.to_bytes(4, "little")
        for tag, permission, who in entries
    )
    return (2).to_bytes(4, "little") + fields


def test_a_link_keeps_the_one_name_that_it_still_has(scratch: Path) -> None:
    """Its other name being given to another file without our doing, that one was opened by both."""
    with Box(scratch, {}, upper={b"a": file(b"first"), b"other": file(b"other")}) as box, box.node(b"a") as node:
        os.link(os.path.join(box.upper, b"a"), os.path.join(box.upper, b"b"))
        os.rename(os.path.join(box.upper, b"other"), os.path.join(box.upper, b"a"))
        box.union.directory(1).listing = None
        with box.node(b"b") as again:
            assert again is node
            assert box.read(b"b") == b"first"
            assert box.read(b"a") == b"other"


@pytest.mark.parametrize("mark", [b".wh.name", b".wh..wh..opq"])
def test_a_mark_that_is_there_as_something_else_is_not_opened(scratch: Path, mark: bytes) -> None:
    """A FIFO at its name had the server wait for a reader for ever."""
    from layerfs.union.whiteout import make_mark_file

    os.mkfifo(scratch / os.fsdecode(mark))
    at = os.open(scratch, os.O_RDONLY)
    make_mark_file(at, mark)
    os.close(at)
    assert stat.S_ISFIFO(os.lstat(scratch / os.fsdecode(mark)).st_mode)
