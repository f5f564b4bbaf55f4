"""What is answered before trio and pyfuse3 are there: a real mount whose server imports as slowly as the test wants."""

import errno
import os
from pathlib import Path

import pytest

from layerfs.union.inodes import Node
from layerfs.union.state import Attributes
from tests.fuse.slow import NAMES, Slow, running
from tests.host import require
from tests.oracle.trees import file, symlink
from tests.union.box import Box


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


@pytest.mark.parametrize(
    "bad", ["x" * 4096, "x" * 70_000, ZeroDivisionError(), MemoryError(), OSError(524, "ENOTSUPP")]
)
def test_whatever_goes_wrong_is_an_error_of_that_request(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, bad: object
) -> None:
    """A symlink of 4,096 bytes in a layer ended the server, if it was met in the first 100 ms."""
    require("fuse")
    box = Box(scratch, {b"link": symlink(b"to"), b"file": file(b"data")})

    def readlink(_: int) -> bytes:
        if isinstance(bad, Exception):
            raise bad
        return str(bad).encode()

    monkeypatch.setattr(box.union, "readlink", readlink)
    with running(Slow(box, scratch / "m", scratch / "imported", monkeypatch)) as mount:
        for imported in (False, True):
            with pytest.raises(OSError) as failure:
                os.readlink(mount.target / "link")
            assert failure.value.errno in (errno.ENAMETOOLONG, errno.EIO, errno.ENOMEM)
            assert os.listdir(mount.target)
            if not imported:
                mount.imported()
                assert (mount.target / "file").read_bytes() == b"data"  # a READ is for the server
        assert mount.end() == 0
