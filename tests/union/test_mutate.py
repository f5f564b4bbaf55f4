"""Making and removing names: what lands in the upper, in each form of whiteout, and that the next mount agrees."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from layerfs.union.mutate import Caller
from tests.host import find_person
from tests.oracle.trees import WHITEOUT, Kind, Layer, Node, directory, file
from tests.union.box import Box, as_person, marks_of
from tests.union.kernel import overlay, tree_of

LONG = b"n" * 255
LOWER: Layer = {
    b"f": file(b"f"), b"d/x": file(b"x"), b"d/s/y": file(b"y"), LONG: file(b"long"), b"l/" + LONG: file(b"1"),
}  # fmt: skip


def code_of(act: Callable[..., object], *args: object) -> int:
    try:
        act(*args)
        return 0
    except OSError as error:
        return error.errno or -1


@pytest.mark.parametrize("devices", [True, False], ids=["devices", "files"])
def test_remove_and_make_again(scratch: Path, devices: bool) -> None:
    with Box(scratch, LOWER) as box:
        box.marks.devices = devices
        box.write(b"f", b"F")
        for path in (b"f", b"d/s/y", b"d/x", LONG, b"l/" + LONG):
            box.unlink(path)
        for path in (b"d/s", b"d", b"l"):
            box.rmdir(path)
        assert box.tree() == {}
        expected = {b"f": "whiteout", b"d": "whiteout", b"l": "whiteout", LONG: "whiteout"}
        if not devices:
            expected = {b".wh.f": "file", b".wh.d": "file", b".wh.l": "file"}
        assert marks_of(box.upper) == expected
        assert box.again().tree() == {}
        box.marks.devices = devices
        box.mkdir(b"f")
        box.create(b"d", b"now a file")
        box.mkdir(LONG)
        box.mkdir(b"l")
        made = {b"f": "dir", b"d": b"now a file", LONG: "dir", b"l": "dir"}
        assert box.tree() == made
        assert box.again().tree() == made
        assert marks_of(box.upper) == {b"f": "opaque y", LONG: "opaque y", b"l": "opaque y"}


@pytest.mark.parametrize("copied", [False, True], ids=["lower", "copied up"])
def test_long_names_without_devices_are_hidden_by_xattr(scratch: Path, copied: bool) -> None:
    """They failed with ENAMETOOLONG: `.wh.NAME` has no room."""
    with Box(scratch, LOWER, {LONG: directory()}) as box:
        box.marks.devices = False
        if copied:
            box.write(LONG, b"L")
        box.rename(LONG, b"short")
        box.unlink(b"l/" + LONG)
        assert (box.exists(LONG), box.names(b"l")) == (False, [])
        assert (box.again().exists(LONG), box.names(b"l")) == (False, [])
        assert os.getxattr(box.upper, "trusted.overlay.opaque") == b"x"
        box.create(LONG, b"again")
        assert box.again().read(LONG) == b"again"


def test_whiteouts_share_one_inode_until_it_is_full(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Box(scratch, {b"%d" % index: file() for index in range(9)}) as box:
        for index in range(3):
            box.unlink(b"%d" % index)
        assert len({os.lstat(os.path.join(box.upper, b"%d" % index)).st_ino for index in range(3)}) == 1
        real = os.link
        refused = [errno.EMLINK, errno.EPERM]

        def link(*args: object, **options: object) -> None:
            if refused:
                code = refused.pop()
                raise OSError(code, os.strerror(code))
            real(*args, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "link", link)
        for index in range(3, 9):
            box.unlink(b"%d" % index)
        assert box.tree() == {}
        assert set(marks_of(box.upper).values()) == {"whiteout"}


@pytest.mark.parametrize(
    ("name", "code"),
    [(b"f", errno.EEXIST), (b"n" * 256, errno.ENAMETOOLONG), (b".wh.x", errno.EPERM), (b"\xff\n*", 0), (b"m" * 255, 0)],
)
def test_new_names(scratch: Path, name: bytes, code: int) -> None:
    with Box(scratch, LOWER) as box:
        for act in (box.create, box.mkdir, lambda path: box.symlink(b"x", path), lambda path: box.link(b"d/x", path)):
            assert code_of(act, name) == code
            if code == 0:
                (box.rmdir if act == box.mkdir else box.unlink)(name)
        assert box.is_clean()


def test_what_cannot_be_removed(scratch: Path) -> None:
    with Box(scratch, LOWER) as box:
        assert [code_of(box.unlink, b"d"), code_of(box.rmdir, b"f"), code_of(box.rmdir, b"d")] == [
            errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY,
        ]  # fmt: skip
        assert code_of(box.unlink, b"none") == code_of(box.rmdir, b"none") == errno.ENOENT
        assert box.is_clean()


def test_whiteout_device_is_none_of_ours_and_needs_xattrs(scratch: Path) -> None:
    with Box(scratch, LOWER) as box:
        box.mknod(b"w", stat.S_IFCHR, 0)
        assert box.again().tree()[b"w"] == ("c", 0)
        assert marks_of(box.upper) == {}
        box.marks.xattrs = False
        assert code_of(box.mknod, b"v", stat.S_IFCHR, 0) == errno.EPERM
        box.mknod(b"null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        assert box.tree()[b"null"] == ("c", os.makedev(1, 3))


@pytest.mark.parametrize("over", [b"new", b"f"])
def test_owner_mode_and_umask_of_what_is_made(scratch: Path, over: bytes) -> None:
    with Box(scratch, LOWER, upper={b"sg": directory(0o2775, gid=77)}) as box:
        if over == b"f":
            box.unlink(b"f")
        box.mkdir(over, 0o777, Caller(5, 6, 0o027))
        box.create(over + b"/file", b"", 0o666, Caller(5, 6, 0o027))
        box.create(b"sg/file", b"", 0o666, Caller(5, 6, 0o002))
        box.mkdir(b"sg/dir", 0o777, Caller(5, 6, 0o022))
        shown = {path: box.stat(path) for path in (over, over + b"/file", b"sg/file", b"sg/dir")}
        assert [(st.st_uid, st.st_gid, oct(stat.S_IMODE(st.st_mode))) for st in shown.values()] == [
            (5, 6, "0o750"), (5, 6, "0o640"), (5, 77, "0o664"), (5, 77, "0o2755"),
        ]  # fmt: skip


def test_kernel_sees_the_same_tree(scratch: Path, require: Callable[..., None]) -> None:
    require("kernel overlay")
    with Box(scratch, LOWER, {b"d/s/deep": file(b"-")}) as box:
        box.unlink(b"d/x")
        box.unlink(b"d/s/y")
        box.unlink(b"d/s/deep")
        box.rmdir(b"d/s")
        box.mkdir(b"d/s")
        box.create(b"d/s/n", b"n")
        box.unlink(b"f")
        box.symlink(b"to", b"f")
        tree = box.tree()
        with overlay(scratch, [box.upper, *box.stack.lowers]) as merged:
            assert tree_of(merged) == tree


def test_directories_that_may_not_be_written_are_copied_up_and_removed_without_root(
    scratch: Path, require: Callable[..., None]
) -> None:
    """Their `..` changes with the rename that places them: EACCES."""
    require("root", "person", "user xattrs")
    person = find_person(scratch / "home")
    person.owns(scratch)
    read_only = directory(0o555)
    layer: Layer = {b"ro": read_only, b"ro/sub": read_only, b"ro/sub/f": file(b"f"), b"e": directory(0o500)}
    with as_person(person.uid, person.gid):
        box = Box(scratch, layer, prefix="user.overlay.", owner=(person.uid, person.gid))
        with box:
            box.write(b"ro/sub/f", b"F")
            assert [stat.S_IMODE(box.stat(path).st_mode) for path in (b"ro", b"ro/sub")] == [0o555, 0o555]
            box.rmdir(b"e")
            box.mkdir(b"e", 0o500)
            assert box.again().tree() == {b"e": "dir", b"ro": "dir", b"ro/sub": "dir", b"ro/sub/f": b"F"}
            assert stat.S_IMODE(box.stat(b"e").st_mode) == 0o500


def test_read_only_union_changes_nothing(scratch: Path) -> None:
    with Box(scratch, LOWER, writable=False) as box:
        acts = [(box.create, b"n"), (box.mkdir, b"n"), (box.unlink, b"f"), (box.rmdir, b"d"), (box.write, b"f", b"x")]
        assert [code_of(act, *args) for act, *args in acts] == [errno.EROFS] * 5  # type: ignore[arg-type]


def test_special_files_of_a_lower_are_copied_up(scratch: Path) -> None:
    from layerfs.union.attrs import Change

    layer = {b"p": Node(Kind.FIFO), b"c": Node(Kind.CHAR, rdev=(1, 3)), b"s": Node(Kind.SOCKET), b"w": WHITEOUT}
    with Box(scratch, layer) as box:
        for name in (b"p", b"c", b"s"):
            box.change(name, Change(mode=0o600, mtime_ns=-5))
            box.rename(name, name + b"2")
        expected = {b"p2": ("p", 0), b"c2": ("c", os.makedev(1, 3)), b"s2": ("s", 0)}
        assert box.again().tree() == expected
        assert {box.stat(name).st_mtime_ns for name in expected} == {-5}
