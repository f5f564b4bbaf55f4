"""Objects that are reached by a descriptor or by a name: no symlink is followed, with /proc and without it."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerfs.sys import libc, target


@pytest.fixture
def at(scratch: Path) -> Iterator[int]:
    (scratch / "outside").write_text("secret")
    (scratch / "outside").chmod(0o600)
    os.utime(scratch / "outside", ns=(1, 1))
    (scratch / "d").mkdir()
    (scratch / "d/f").touch(0o600)
    (scratch / "d/link").symlink_to("../outside")
    fd = os.open(scratch / "d", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    yield fd
    os.close(fd)
    st = (scratch / "outside").stat()
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_mtime_ns, os.listxattr(scratch / "outside")) == (
        0o600, os.geteuid(), 1, [],
    )  # fmt: skip


@pytest.fixture(params=["proc", "held", "no proc"])
def proc(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, require: Callable[..., None]
) -> Iterator[None]:
    """All ways of reaching an open object; without /proc its paths lead nowhere."""
    if request.param == "held":
        with target.quick_ways():
            yield
        return
    if request.param == "proc":
        yield
        return
    try:
        libc.call(target.GETXATTRAT, -1, b"", 0, b"user.a", None, 0)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            pytest.skip("needs the xattr calls of Linux 6.13")
    monkeypatch.setattr(target, "_PROC", b"/absent/self/fd")
    monkeypatch.setattr(target, "held", lambda fd: target.Held(b"/absent/self/fd/%d" % fd))
    monkeypatch.setattr(target, "path_of", lambda at, name: target.Named(b"/absent/self/fd/%d/%s" % (at, name)))
    yield


@pytest.fixture
def reached(at: int, proc: None) -> Iterator[list[target.Target]]:
    """One file, reached in each way."""
    fd = os.open(b"f", target.PINNED, dir_fd=at)
    full = os.open(b"f", os.O_RDONLY | os.O_CLOEXEC, dir_fd=at)
    yield [full, target.held(fd), target.path_of(at, b"f")]
    os.close(fd)
    os.close(full)


def test_attributes_are_changed_and_read_in_every_way(
    reached: list[target.Target], request: pytest.FixtureRequest, require: Callable[..., None]
) -> None:
    require("user xattrs")
    without = "no proc" in request.node.callspec.id
    for count, each in enumerate(reached, 1):
        target.chmod(each, 0o640 + count)
        target.chown(each, -1, os.getegid())
        target.utime(each, -1_500_000_000, count)
        if without and isinstance(each, target.Held):
            with pytest.raises(OSError, match="through /proc alone"):
                target.listxattr(each)
            continue
        target.setxattr(each, "user.a", b"%d" % count)
        st = target.stat(each)
        assert (stat.S_IMODE(st.st_mode), st.st_atime_ns, st.st_mtime_ns) == (0o640 + count, -1_500_000_000, count)
        assert (target.listxattr(each), target.getxattr(each, "user.a")) == (["user.a"], b"%d" % count)
        target.removexattr(each, "user.a")
        with pytest.raises(OSError, match="No data") as caught:
            target.getxattr(each, "user.a")
        assert caught.value.errno == errno.ENODATA


def test_symlink_is_changed_itself_or_refused(at: int, proc: None) -> None:
    link = target.path_of(at, b"link")
    with pytest.raises(OSError, match="not supported"):
        target.chmod(link, 0o666)
    with pytest.raises(OSError, match="not permitted"):
        target.setxattr(link, "user.a", b"1")
    target.utime(link, 5, 6)
    target.chown(link, os.geteuid(), -1)
    assert (target.stat(link).st_mtime_ns, target.listxattr(link)) == (6, [])
    pin = os.open(b"link", target.PINNED, dir_fd=at)
    target.utime(target.held(pin), 7, 8)
    target.chown(target.held(pin), os.geteuid(), -1)
    assert target.stat(link).st_mtime_ns == 8
    with pytest.raises(OSError, match="not supported"):
        target.chmod(target.held(pin), 0o666)
    os.close(pin)


def test_absent_name_is_absent_with_and_without_proc(at: int, proc: None) -> None:
    for call in (target.listxattr, target.stat, lambda each: target.chmod(each, 0)):
        with pytest.raises(FileNotFoundError):
            call(target.path_of(at, b"absent"))


def test_reopened_is_the_same_object(at: int, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = os.open(b"f", target.PINNED, dir_fd=at)
    (scratch / "d/f").rename(scratch / "d/g")
    (scratch / "d/f").symlink_to("../outside")
    fd = target.reopen(pin, os.O_RDWR)
    assert os.path.samestat(os.fstat(fd), os.stat(scratch / "d/g"))
    os.close(fd)
    monkeypatch.setattr(target, "_PROC", b"/absent")
    monkeypatch.setattr(target, "held", lambda fd: target.Held(b"/absent/%d" % fd))
    with pytest.raises(OSError, match="needs /proc"):
        target.reopen(pin, os.O_RDONLY)
    os.close(pin)
    again = target.reopen(at, os.O_RDONLY)
    assert os.path.samestat(os.fstat(again), os.fstat(at))
    os.close(again)


def test_a_childs_way_is_its_own(at: int) -> None:
    """/proc/self/fd that a parent has open is the parent's: by it a child would open what its parent has open."""
    with target.quick_ways():
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.dup2(os.open("/dev/null", os.O_RDONLY), at)
                status = 0 if stat.S_ISCHR(os.fstat(target.reopen(at, os.O_RDONLY)).st_mode) else 2
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
