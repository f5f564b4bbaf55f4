"""The bytes of files: descriptors that are shared, replaced, evicted, and kept for files without a name."""

import os
import stat
from pathlib import Path

import pytest

from layerfs.union.attrs import Change
from layerfs.union.setid import Who
from tests.oracle.trees import file, hardlink, symlink
from tests.union.box import Box


def test_reopened_file_is_not_closed_by_its_own_place_in_the_pool(scratch: Path) -> None:
    """Opening a file again while the pool was full closed the descriptor that was just opened."""
    with Box(scratch, {b"%d" % index: file(b"%d" % index) for index in range(8)}, limit=4) as box:
        for _ in range(3):
            for index in range(8):
                with box.opened(b"%d" % index, os.O_RDWR | os.O_TRUNC) as node:
                    os.pwrite(box.union.writable_fd(node.ino), b"new%d" % index, 0)
        assert box.tree() == {b"%d" % index: b"new%d" % index for index in range(8)}
        assert len(box.ov.files) == 0


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_more_open_files_than_descriptors(scratch: Path, limit: int) -> None:
    names = [b"%d" % index for index in range(10)]
    with Box(scratch, {name: file(b"low" + name) for name in names}) as box:
        box.ov.files.limit = limit
        for name in names[:5]:
            box.write(name, b"up")
        union = box.union
        nodes = [union.lookup(1, name)[0] for name in names]
        for node in nodes:
            union.remember(node)
            union.open_file(node.ino, os.O_RDONLY)
        assert sum(node.extra is not None and node.extra.data is not None for node in nodes) <= limit  # type: ignore[attr-defined]
        for name, node in zip(names, nodes, strict=True):
            expected = b"up" + (b"low" + name)[2:] if name in names[:5] else b"low" + name
            assert os.pread(box.data_fd(node.ino), 100, 0) == expected
        for node in nodes:
            union.release(node.ino)
            union.forget(node.ino, 1)
        assert box.is_clean()


@pytest.mark.parametrize("where", ["upper", "lower"])
@pytest.mark.parametrize("evicted", [False, True])
def test_open_file_outlives_its_name(scratch: Path, where: str, evicted: bool) -> None:
    """After an eviction it was pinned by an O_PATH descriptor, and reading it failed with EBADF."""
    with Box(scratch, {b"f": file(b"data"), b"other": file(b"")}) as box:
        if where == "upper":
            box.write(b"f", b"d")
        if evicted:
            box.ov.files.limit = 1
        with box.opened(b"f") as node:
            with box.opened(b"other"):
                box.unlink(b"f")
            fd = box.data_fd(node.ino)
            assert os.pread(fd, 10, 0) == b"data"
            assert box.union.attributes(node.ino).st_nlink == 0
            os.pwrite(box.union.writable_fd(node.ino) if where == "upper" else _written(box, node.ino), b"D", 0)
            assert os.pread(box.data_fd(node.ino), 10, 0) == b"Data"
        assert box.is_clean()
        assert box.tree() == {b"other": b""}


def _written(box: Box, ino: int) -> int:
    """Change the mode of a lower file without a name: it gets an anonymous copy in the upper."""
    assert stat.S_IMODE(box.union.set_attributes(ino, Change(mode=0o600)).st_mode) == 0o600
    return box.union.writable_fd(ino)


@pytest.mark.parametrize("where", ["upper", "lower"])
def test_file_known_but_not_open_when_it_is_unlinked(scratch: Path, where: str) -> None:
    """A process with an O_PATH descriptor opens, changes and cuts it through /proc/self/fd."""
    with Box(scratch, {b"f": file(b"data", 0o640, xattrs=((("user.x"), b"1"),))}) as box:
        union = box.union
        if where == "upper":
            box.write(b"f", b"d")
        with box.node(b"f") as node:
            union.unlink(1, b"f")
            assert union.attributes(node.ino).st_nlink == 0
            union.open_file(node.ino, os.O_RDONLY)
            assert os.pread(box.data_fd(node.ino), 10, 0) == b"data"
            union.release(node.ino)
            assert union.get_xattr(node.ino, b"user.x") == b"1"
            union.set_xattr(node.ino, b"user.y", b"2")
            assert sorted(union.list_xattrs(node.ino)) == [b"user.x", b"user.y"]
            st = union.set_attributes(node.ino, Change(size=2, mode=0o600, mtime_ns=5))
            assert (st.st_size, stat.S_IMODE(st.st_mode), st.st_mtime_ns, st.st_nlink) == (2, 0o600, 5, 0)
        assert box.is_clean()


def test_unlinked_symlink_can_still_be_read(scratch: Path) -> None:
    with Box(scratch, {b"s": symlink(b"target")}) as box:
        with box.node(b"s") as node:
            box.unlink(b"s")
            assert box.union.readlink(node.ino) == b"target"
        assert box.is_clean()


def test_name_not_seen_before_gives_an_unlinked_file_its_name_back(scratch: Path) -> None:
    """The second name of an upper file got a node of its own, and the first one's descriptors were lost."""
    with Box(scratch, {}, upper={b"a": file(b"data"), b"b": hardlink(b"a")}) as box:
        with box.opened(b"a") as node:
            box.unlink(b"a")
            assert box.ino(b"b") == node.ino
            assert box.stat(b"b").st_nlink == 1
            box.write(b"b", b"D")
            assert os.pread(box.data_fd(node.ino), 10, 0) == b"Data"
        assert box.is_clean()


def test_failed_unlink_leaves_an_open_file_as_it_was(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Box(scratch, {b"f": file(b"data")}) as box:
        with box.opened(b"f") as node, monkeypatch.context() as patch:
            patch.setattr("layerfs.union.whiteout.Marks.make", _no_space)
            with pytest.raises(OSError, match="No space"):
                box.unlink(b"f")
            assert box.union.attributes(node.ino).st_nlink == 1
        box.write(b"f", b"D")
        assert box.tree() == {b"f": b"Data"}
        assert box.is_clean()


def _no_space(*_: object) -> None:
    raise OSError(28, os.strerror(28))


def test_readers_see_what_a_copy_up_writes(scratch: Path) -> None:
    with Box(scratch, {b"f": file(b"data")}) as box, box.opened(b"f") as node:
        fd = box.data_fd(node.ino)
        assert os.pread(fd, 10, 0) == b"data"
        box.write(b"f", b"D")
        assert os.pread(box.data_fd(node.ino), 10, 0) == b"Data"


def test_truncate_copies_no_more_than_it_keeps(scratch: Path) -> None:
    with Box(scratch, {b"f": file(b"@1000000")}) as box:
        assert box.change(b"f", Change(size=3)).st_size == 3
        assert box.read(b"f") == b"sta"
        assert box.change(b"f", Change(size=6)).st_size == 6
        assert box.read(b"f") == b"sta\0\0\0"


def test_truncating_open_of_a_lower_file_leaves_it_empty_and_its_mode(scratch: Path) -> None:
    with Box(scratch, {b"f": file(b"data", 0o751)}) as box:
        with box.opened(b"f", os.O_WRONLY | os.O_TRUNC):
            pass
        assert box.read(b"f") == b""
        assert stat.S_IMODE(box.stat(b"f").st_mode) == 0o751


def test_write_by_the_unprivileged_clears_setuid(scratch: Path) -> None:
    with Box(scratch, {b"f": file(b"data", 0o6755), b"g": file(b"", 0o2644)}) as box:
        for name, mode in ((b"f", 0o755), (b"g", 0o2644)):
            with box.opened(name, os.O_RDWR) as node:
                box.union.drop_sxid(node.ino, Who.MEMBER)
            assert stat.S_IMODE(box.stat(name).st_mode) == mode
