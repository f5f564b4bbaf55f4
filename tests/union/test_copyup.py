"""Copy-up: everything about a file arrives, or nothing does."""

import errno
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from layerfs.union.attrs import Change
from tests.oracle.trees import Layer, directory, file, symlink
from tests.union.box import Box

XATTRS = (("user.x", b"1"), ("trusted.y", b"2"), ("security.z", b"3"))


def test_metadata_of_files_and_parents(scratch: Path, require: Callable[..., None]) -> None:
    require("root", "user xattrs")
    layer: Layer = {
        b"d": directory(0o2751, uid=3, gid=4, xattrs=XATTRS, mtime=-7),
        b"d/f": file(b"data", 0o6711, uid=5, gid=6, xattrs=XATTRS, mtime=5_000_000_000_000_000_001),
        b"d/s": symlink(b"to"),
    }
    with Box(scratch, layer) as box:
        before = {path: _facts(box, path) for path in (b"d", b"d/f")}
        box.change(b"d/f", Change(atime_ns=1))
        box.change(b"d/s", Change(mtime_ns=3))
        assert {path: _facts(box, path) for path in before} == before
        assert {path: _facts(box.again(), path) for path in before} == before
        st = os.lstat(os.path.join(box.upper, b"d/s"))
        assert (st.st_mtime_ns, os.readlink(os.path.join(box.upper, b"d/s"))) == (3, b"to")


def test_a_journal_is_looked_for_once(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def keeps_order(fd: int) -> bool:
        asked.append(fd)
        return False

    monkeypatch.setattr("layerfs.union.state.keeps_order", keeps_order)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with Box(scratch, {b"f": file(b"one"), b"g": file(b"two")}) as box:
        for path in (b"f", b"g"):
            box.change(path, Change(mode=0o600))
    assert (len(asked), len(synced)) == (1, 2)


def _facts(box: Box, path: bytes) -> tuple[object, ...]:
    st = box.stat(path)
    with box.node(path) as node:
        xattrs = {name: box.union.get_xattr(node.ino, name) for name in box.union.list_xattrs(node.ino)}
    size = 0 if stat.S_ISDIR(st.st_mode) else st.st_size
    return st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns, size, xattrs


def test_holes_stay_holes(disk: Path) -> None:
    with Box(disk, {b"f": file(b"")}) as box:
        lower = os.path.join(box.layer(1), b"f")
        with open(lower, "r+b") as sparse:
            sparse.seek(64 << 20)
            sparse.write(b"end")
        box.write(b"f", b"start")
        st = os.stat(os.path.join(box.upper, b"f"))
        assert (st.st_size, st.st_blocks < 100) == ((64 << 20) + 3, True)


@pytest.mark.mounts
def test_full_upper_keeps_the_old_file_and_leaves_no_scrap(scratch: Path, require: Callable[..., None]) -> None:
    require("root")
    small = scratch / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)], check=True)
    (scratch / "stack").mkdir()
    with Box(scratch / "stack", {b"d/big": file(b"x" * 400_000), b"d/little": file(b"1")}) as box:
        box.union.close()
        for name in ("upper", "work"):
            (small / name).mkdir()
        box.stack = type(box.stack)(box.stack.lowers, os.fsencode(small / "upper"), os.fsencode(small / "work"))
        box.union = box._open()
        for _ in range(3):
            with pytest.raises(OSError) as caught:
                box.write(b"d/big", b"y")
            assert caught.value.errno == errno.ENOSPC
            assert os.listdir(small / "work/work") == []
        assert box.read(b"d/big") == b"x" * 400_000
        box.write(b"d/little", b"2")
        assert box.again().read(b"d/little") == b"2"
        assert box.is_clean()


def test_two_copy_ups_of_one_file_make_one(scratch: Path) -> None:
    with Box(scratch, {b"f": file(b"data")}) as box, box.node(b"f") as node:
        union = box.union
        first, second = union.stage(node), union.stage(node)  # type: ignore[arg-type]
        assert first is not None and second is not None
        for staged in (first, second):
            staged.copy()
        union.adopt(first)
        box.write(b"f", b"D")
        union.adopt(second)
        assert union.stage(node) is None  # type: ignore[arg-type]
        assert box.read(b"f") == b"Data"
        assert os.listdir(os.path.join(box.work, b"work")) == []


def test_file_renamed_and_unlinked_while_its_copy_is_made(scratch: Path) -> None:
    with Box(scratch, {b"f": file(b"data"), b"g": file(b"more")}) as box:
        for name in (b"f", b"g"):
            with box.opened(name) as node:
                staged = box.union.stage(node)
                assert staged is not None
                staged.copy()
                if name == b"f":
                    box.rename(b"f", b"new")
                else:
                    box.unlink(b"g")
                box.union.adopt(staged)
                fd = box.union.writable_fd(node.ino)
                os.pwrite(fd, b"!", 0)
                assert os.pread(box.data_fd(node.ino), 9, 0)[:1] == b"!"
        assert box.tree() == {b"new": b"!ata"}
        assert box.is_clean()
        assert os.listdir(os.path.join(box.work, b"work")) == [b"whiteout"]


def test_copy_up_shows_in_no_directory_time(scratch: Path) -> None:
    with Box(scratch, {b"d/e/f": file(b"1")}) as box:
        before = {path: box.stat(path).st_mtime_ns for path in (b"d", b"d/e")}
        box.write(b"d/e/f", b"2")
        assert {path: box.stat(path).st_mtime_ns for path in before} == before


def test_private_marks_are_not_seen_and_not_copied(scratch: Path) -> None:
    xattrs = (("trusted.overlay.opaque", b"y"), ("user.overlay.origin", b"o"), ("user.mine", b"1"))
    with Box(scratch, {b"d": directory(xattrs=xattrs)}) as box, box.node(b"d") as node:
        assert box.union.list_xattrs(node.ino) == [b"user.mine"]
        for name in (b"trusted.overlay.opaque", b"user.overlay.redirect", b"user.containers.override_stat"):
            with pytest.raises(OSError) as caught:
                box.union.get_xattr(node.ino, name)
            assert caught.value.errno == errno.ENODATA
        box.change(b"d", Change(mode=0o700))
        assert sorted(box.union.list_xattrs(node.ino)) == [b"user.mine"]
