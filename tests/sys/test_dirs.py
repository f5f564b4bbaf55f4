"""Names in held directories."""

import errno
import os
import resource
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerfs.sys import dirs, target


@pytest.fixture
def at(scratch: Path) -> Iterator[int]:
    fd = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    yield fd
    os.close(fd)


def test_remove_takes_trees_and_never_follows_a_symlink(scratch: Path, at: int) -> None:
    (scratch / "kept").mkdir()
    (scratch / "kept/file").touch()
    (scratch / "tree/a/b").mkdir(parents=True)
    (scratch / "tree/a/link").symlink_to("../../kept")
    os.chmod(scratch / "tree/a", 0)
    for name in (b"tree", b"absent"):
        dirs.remove(at, name)
    assert sorted(os.listdir(scratch)) == ["kept"]
    assert os.listdir(scratch / "kept") == ["file"]


def test_directory_is_not_opened_through_a_symlink(scratch: Path, at: int) -> None:
    (scratch / "link").symlink_to("/")
    with pytest.raises(OSError, match="Not a directory"):
        dirs.open_directory(at, b"link")


def test_pinned_refuses_symlinks_and_reaches_the_rest(scratch: Path, at: int) -> None:
    (scratch / "file").touch()
    (scratch / "link").symlink_to("file")
    dirs.chmod(at, b"file", 0o640)
    assert stat.S_IMODE((scratch / "file").stat().st_mode) == 0o640
    with pytest.raises(OSError, match="not supported"):
        dirs.chmod(at, b"link", 0)


def test_pin_keeps_a_file_alive(scratch: Path, at: int) -> None:
    (scratch / "file").write_text("x")
    fd = dirs.pin(at, b"file")
    (scratch / "file").unlink()
    assert (dirs.is_path_only(fd), os.fstat(fd).st_nlink) == (True, 0)
    assert not dirs.is_path_only(at)
    os.close(fd)


def test_rename_flags(scratch: Path, at: int) -> None:
    (scratch / "a").write_text("a")
    (scratch / "b").write_text("b")
    dirs.rename(at, b"a", at, b"b", dirs.RENAME_EXCHANGE)
    assert ((scratch / "a").read_text(), (scratch / "b").read_text()) == ("b", "a")
    with pytest.raises(FileExistsError):
        dirs.rename(at, b"a", at, b"b", dirs.RENAME_NOREPLACE)
    dirs.move(at, b"a", at, b"b")
    assert (scratch / "b").read_text() == "b"


def test_xattrs_of_a_descriptor_a_name_and_a_proc_path(scratch: Path, at: int) -> None:
    (scratch / "f").touch()
    (scratch / "s").symlink_to("f")
    os.setxattr(scratch / "f", "user.a", b"1")
    fd = os.open(scratch / "f", os.O_RDONLY)
    reached: list[dirs.Target] = [fd, dirs.held(fd), dirs.path_of(at, b"f")]
    assert [dirs.getxattr_or_none(path, "user.a") for path in reached] == [b"1"] * 3
    assert [dirs.xattrs(path) for path in reached] == [["user.a"]] * 3
    assert dirs.getxattr_or_none(dirs.path_of(at, b"s"), "user.a") is None
    assert dirs.getxattr_or_none(fd, "user.b") is None
    os.close(fd)


def test_umask_is_put_back() -> None:
    before = os.umask(0o022)
    os.umask(before)
    with pytest.raises(KeyError), dirs.umask(0o077):
        raise KeyError
    assert os.umask(before) == before


def test_unlocked_directory_gets_its_mode_back(scratch: Path) -> None:
    scratch.chmod(0o555)
    fd = os.open(scratch, os.O_RDONLY)
    with dirs.unlocked(fd):
        assert stat.S_IMODE(scratch.stat().st_mode) == 0o755
    assert stat.S_IMODE(scratch.stat().st_mode) == 0o555
    os.close(fd)


@pytest.mark.parametrize("depth", [1200])
def test_remove_of_a_deep_tree_needs_no_deep_stack_and_few_descriptors(scratch: Path, at: int, depth: int) -> None:
    """It recursed: a chain that a container left in the work directory ended every later mount."""
    (scratch / "deep").mkdir()
    step = os.open("deep", os.O_RDONLY, dir_fd=at)
    for count in range(depth):
        for name in (b"d", b"%d" % count):
            os.mkdir(name, 0o700, dir_fd=step)
        os.close(os.open(b"d/f", os.O_CREAT, dir_fd=step))
        step, old = os.open(b"d", os.O_RDONLY, dir_fd=step), step
        os.close(old)
    os.close(step)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 10, hard))
    try:
        dirs.remove(at, b"deep")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert os.listdir(scratch) == []


def test_only_a_regular_file_is_opened_and_only_the_one_that_is_expected(scratch: Path, at: int) -> None:
    (scratch / "file").write_text("x")
    (scratch / "link").symlink_to("file")
    os.mkfifo(scratch / "fifo")
    (scratch / "dir").mkdir()
    fd = dirs.open_regular(at, b"file", os.O_RDWR, lambda st: st.st_size == 1)
    assert os.read(fd, 2) == b"x"
    os.close(fd)
    for name in (b"link", b"fifo", b"dir"):
        with pytest.raises(OSError, match="Stale") as caught:
            dirs.open_regular(at, name, os.O_RDWR)
        assert caught.value.errno == errno.ESTALE
    with pytest.raises(OSError, match="Stale"):
        dirs.open_regular(at, b"file", os.O_RDONLY, lambda st: st.st_size == 2)
    with pytest.raises(FileNotFoundError):
        dirs.open_regular(at, b"absent", os.O_RDONLY)


def test_a_device_is_not_opened(scratch: Path, at: int, require: Callable[..., None]) -> None:
    require("root")
    os.mknod(scratch / "tty", stat.S_IFCHR | 0o666, os.makedev(4, 99))
    with pytest.raises(OSError, match="Stale"):
        dirs.open_regular(at, b"tty", os.O_RDWR)


def test_file_is_opened_by_its_name_where_there_is_no_proc(
    scratch: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scratch / "file").write_text("x")
    monkeypatch.setattr(target, "_PROC", b"/absent")
    monkeypatch.setattr(target, "held", lambda fd: dirs.Held(b"/absent/%d" % fd))
    os.close(dirs.open_regular(at, b"file", os.O_RDONLY))
    real = os.open

    def exchanged(path: bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if not flags & os.O_PATH and path == b"file":
            (scratch / "other").touch()
            (scratch / "other").rename(scratch / "file")
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", exchanged)
    with pytest.raises(OSError, match="Stale"):
        dirs.open_regular(at, b"file", os.O_RDONLY)


def test_path_beneath_a_directory_leads_nowhere_else(scratch: Path, at: int) -> None:
    (scratch / "in/deep").mkdir(parents=True)
    (scratch / "in/link").symlink_to("deep")
    os.close(dirs.open_beneath(at, b"in/deep", os.O_RDONLY))
    inside = os.open(scratch / "in", os.O_RDONLY)
    for base, path in ((at, b"in/link"), (at, b"in/link/."), (inside, b".."), (at, b"/"), (inside, b"deep/../../in")):
        with pytest.raises(OSError, match=r"symbolic links|cross-device"):
            dirs.open_beneath(base, path, os.O_RDONLY)
    os.close(inside)
