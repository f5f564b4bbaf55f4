"""What is answered before trio and pyfuse3 are there: a real mount whose server imports as slowly as the test wants."""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from layerfs.fuse import serve
from layerfs.fuse.config import ServeConfig
from layerfs.fuse.mount import attach
from layerfs.spec.attach import AttachOptions
from layerfs.sys.mounts import unmount
from layerfs.union.inodes import Node
from layerfs.union.state import Attributes
from tests.host import require
from tests.oracle.trees import directory, file
from tests.union.box import Box

NAMES = 500  # more than one READDIRPLUS holds


class Slow:
    """A mount whose server is in its prelude until `imported`."""

    def __init__(self, box: Box, target: Path, imported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        target.mkdir()
        self.target, self._imported = target, imported
        monkeypatch.setenv("LAYERFS_TEST_IMPORTED", os.fspath(imported))
        monkeypatch.setattr(serve, "SERVER", "tests.fuse.slowly")
        self._device = attach(os.fsencode(target), AttachOptions())
        self.pid = os.fork()
        if self.pid == 0:
            self._serve(box)
        os.close(self._device)
        box.union.close()

    def _serve(self, box: Box) -> NoReturn:
        try:
            serve.serve(self._device, box.union, ServeConfig(os.fsencode(self.target)))
            os._exit(0)
        finally:
            sys.stderr.flush()
            os._exit(1)

    def imported(self) -> None:
        self._imported.touch()

    def end(self) -> int:
        """Unmount and return the server's exit status."""
        self.imported()
        unmount(os.fsencode(self.target), lazy=True)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def slow(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    require("fuse")
    many = {b"many": directory()} | {b"many/%03d" % number: file(b"") for number in range(NAMES)}
    box = Box(scratch, {b"top": file(b"1")}, {b"low": file(b"two"), b"d": directory(), b"d/e": file(b"")} | many)
    os.symlink("low", scratch / "l2/link")
    os.setxattr(scratch / "l2/low", "user.word", b"value")
    with running(Slow(box, scratch / "m", scratch / "imported", monkeypatch)) as mount:
        yield mount


@contextmanager
def running(mount: Slow) -> Iterator[Slow]:
    """End a mount's server, whatever became of it."""
    try:
        yield mount
    finally:
        try:
            os.kill(mount.pid, signal.SIGKILL)
            os.waitpid(mount.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def test_a_look_is_answered_before_the_import_ends(slow: Slow) -> None:
    place = slow.target
    assert sorted(os.listdir(place)) == ["d", "link", "low", "many", "top"]
    assert sorted(os.listdir(place / "many")) == [f"{number:03}" for number in range(NAMES)]
    assert {entry.name: entry.is_dir() for entry in os.scandir(place / "d")} == {"e": False}
    st, lower = os.lstat(place / "low"), os.lstat(place.parent / "l2/low")
    assert (st.st_size, st.st_mode, st.st_mtime_ns) == (lower.st_size, lower.st_mode, lower.st_mtime_ns)
    assert os.readlink(place / "link") == "low"
    assert os.getxattr(place / "low", "user.word") == b"value"
    assert os.statvfs(place).f_namemax == 255
    for name, expected in (("absent", errno.ENOENT), ("x" * 256, errno.ENAMETOOLONG), ("low/below", errno.ENOTDIR)):
        with pytest.raises(OSError) as failure:
            os.lstat(place / name)
        assert failure.value.errno == expected
    assert slow.end() == 0


def test_what_comes_during_the_import_is_answered_after_it(slow: Slow) -> None:
    child = os.fork()
    if child == 0:
        (slow.target / "new").write_bytes(b"written")
        os._exit(0)
    slow.imported()
    assert os.waitpid(child, 0)[1] == 0
    assert (slow.target / "new").read_bytes() == b"written"
    assert (slow.target / "low").read_bytes() == b"two"
    assert slow.end() == 0


def test_a_directory_that_was_opened_before_is_read_on_after(slow: Slow) -> None:
    with os.scandir(slow.target / "many") as entries:
        first = [next(entries).name for _ in range(3)]
        slow.imported()
        (slow.target / "new").touch()
        assert sorted(first + [entry.name for entry in entries]) == [f"{number:03}" for number in range(NAMES)]
    assert slow.end() == 0


def test_a_name_that_cannot_be_looked_at_is_listed(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bad name made the whole directory unreadable, and what was listed before it was never forgotten."""
    require("fuse")
    box = Box(scratch, {b"good": file(b""), b"bad": file(b"")})
    look = box.union.lookup

    def lookup(parent: int, name: bytes) -> tuple[Node, Attributes]:
        if name == b"bad":
            raise OSError(errno.EIO, "damaged")
        return look(parent, name)

    monkeypatch.setattr(box.union, "lookup", lookup)
    with running(Slow(box, scratch / "m", scratch / "imported", monkeypatch)) as mount:
        assert sorted(os.listdir(mount.target)) == ["bad", "good"]
        with pytest.raises(OSError) as failure:
            os.lstat(mount.target / "bad")
        assert failure.value.errno == errno.EIO
        assert mount.end() == 0


def test_told_to_end_during_the_import_the_server_unmounts(slow: Slow) -> None:
    """It died at once, and left a mount that answered ENOTCONN."""
    assert "low" in os.listdir(slow.target)
    os.kill(slow.pid, signal.SIGTERM)
    assert "e" in os.listdir(slow.target / "d")
    slow.imported()
    assert os.waitstatus_to_exitcode(os.waitpid(slow.pid, 0)[1]) == 0
    assert not os.path.ismount(slow.target)


def test_a_mount_that_ends_during_the_import_ends_the_server(slow: Slow) -> None:
    unmount(os.fsencode(slow.target), lazy=True)
    slow.imported()
    assert os.waitstatus_to_exitcode(os.waitpid(slow.pid, 0)[1]) == 0
