"""Plain entries written by one call, and all that it leaves to its caller."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.batch.batch import ROOM, Batch, Written
from tests.host import require
from tests.oci.tars import directory, file, header, link, pax, symlink

MOST = 1 << 40


@pytest.fixture
def at(scratch: Path) -> Iterator[int]:
    """An empty directory."""
    require("root")
    (scratch / "t").mkdir()
    fd = os.open(scratch / "t", os.O_RDONLY)
    yield fd
    os.close(fd)


def write(at: int, data: bytes, most: int = MOST, entries: int = 9999, start: int = 0) -> Written:
    return Batch().write(at, data, start, b"d/", most, entries)


def test_files_and_symlinks_have_all_that_their_headers_say(at: int, scratch: Path) -> None:
    old = os.umask(0o077)
    try:
        data = b"x" * 512 + file(b"d/a", b"a" * 700, mode=0o666, mtime=5)
        data += file(b"d/b", mode=0o6755, uid=7, gid=8) + symlink(b"d/s", b"../a", uid=9)
        done = write(at, data, start=512)
    finally:
        os.umask(old)
    assert done == ([512, 512 + 1536, 512 + 2048], len(data), 700)
    seen = {name: os.lstat(scratch / "t" / name) for name in "abs"}
    assert (scratch / "t/a").read_bytes() == b"a" * 700
    assert [(stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) for st in seen.values()] == [
        (0o666, 0, 0),
        (0o6755, 7, 8),
        (0o777, 9, 0),
    ]
    assert (seen["a"].st_mtime_ns, seen["a"].st_atime_ns, os.readlink(scratch / "t/s")) == (
        5 * 10**9,
        5 * 10**9,
        "../a",
    )


def test_setgid_directory_and_default_mode_change_nothing(at: int, scratch: Path) -> None:
    os.chown(scratch / "t", 0, 50)
    os.chmod(scratch / "t", 0o2755)
    write(at, file(b"d/f", b"1", mode=0o640) + symlink(b"d/s", b"x"))
    for name, mode in (("f", 0o640), ("s", 0o777)):
        st = os.lstat(scratch / "t" / name)
        assert (st.st_gid, stat.S_IMODE(st.st_mode)) == (0, mode)


LEFT = {
    "a directory": directory(b"d/x"),
    "a hard link": link(b"d/x", b"d/a"),
    "a device": header(b"d/x", b"3", major=1, minor=3),
    "type 7": header(b"d/x", b"7"),
    "an extended header": pax({b"path": b"d/x"}) + file(b"d/y"),
    "another directory": file(b"e/x"),
    "a name of two parts": file(b"d/x/y"),
    "the directory itself": file(b"d/"),
    "a dot": file(b"d/."),
    "two dots": file(b"d/.."),
    "a whiteout": file(b"d/.wh.x"),
    "a name that goes on in the prefix": header(b"d/x", late={345: b"pre"}),
    "a symlink to nothing": symlink(b"d/x", b""),
    "a wrong checksum": header(b"d/x", raw={148: b"0000000"}),
    "a negative time": header(b"d/x", mtime=-1),
    "a size in base 256": header(b"d/x", late={124: b"\x80" + bytes(11)}),
    "a mode that is no number": header(b"d/x", late={100: b"rw-r--r-"}),
    "no number at all": header(b"d/x", late={108: bytes(8)}),
    "bytes that are not here": header(b"d/x", size=1000) + bytes(512),
    "padding that is not here": header(b"d/x", size=100) + bytes(100),
    "half a header": file(b"d/x")[:300],
    "the end": bytes(1024),
    "a name that is taken": file(b"d/a", b"other"),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_is_not_plain_is_left(case: str, at: int, scratch: Path) -> None:
    begin = file(b"d/a", b"1")
    done = write(at, begin + LEFT[case] + (b"" if "here" in case or "half" in case else file(b"d/z")))
    assert (done.headers, done.next, done.size) == ([0], len(begin), 1)
    assert os.listdir(scratch / "t") == ["a"]
    assert (scratch / "t/a").read_bytes() == b"1"


def test_bounds_end_it(at: int, scratch: Path) -> None:
    data = b"".join(file(b"d/%d" % number, b"xy") for number in range(ROOM + 5))
    assert len(write(at, data, entries=2).headers) == 2
    assert len(write(at, data, most=5, start=2048).headers) == 2
    assert len(write(at, data, start=4096).headers) == ROOM
    assert len(os.listdir(scratch / "t")) == ROOM + 4


def test_name_and_target_of_a_whole_field(at: int, scratch: Path) -> None:
    long = b"d/" + b"n" * 98
    write(at, file(long) + symlink(b"d/s", b"t" * 100))
    assert sorted(os.listdir(scratch / "t")) == ["n" * 98, "s"]
    assert os.readlink(scratch / "t/s") == "t" * 100


def test_what_cannot_be_completed_does_not_stay(scratch: Path) -> None:
    """The caller tries again and has the words for it; he needs the name free."""
    import subprocess

    require("root")
    (scratch / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", scratch / "small"], check=True)
    fd = os.open(scratch / "small", os.O_RDONLY)
    try:
        done = write(fd, file(b"d/a", b"a") + file(b"d/b", bytes(100_000)))
        assert (done.headers, os.listdir(scratch / "small")) == ([0], ["a"])
    finally:
        os.close(fd)
        subprocess.run(["umount", scratch / "small"], check=True)
