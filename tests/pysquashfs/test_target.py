"""An image takes its place when it is complete, and else leaves no trace."""

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.pysquashfs import (
    FileSpec,
    SquashfsError,
    SquashfsImage,
    write_image,
)
from tests.host import require
from tests.pysquashfs.write_facts import DIRECTORY, FILE, run

TREE = [FileSpec(b"d", DIRECTORY), FileSpec(b"f", FILE, data=b"1")]


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDONLY, os.O_RDWR | os.O_APPEND])
def test_descriptor_needs_to_be_open_for_both(flags: int, scratch: Path) -> None:
    (scratch / "file").write_bytes(b"old")
    fd = os.open(scratch / "file", flags)
    with pytest.raises(OSError, match="open for reading and writing, not appending"):
        write_image(fd, TREE)
    os.close(fd)
    assert (scratch / "file").read_bytes() == b"old"


def test_offset_needs_a_regular_file(scratch: Path) -> None:
    with pytest.raises(SquashfsError, match="an offset needs a descriptor"):
        write_image(scratch / "image", TREE, offset=4096)
    behind, before = os.pipe()
    with pytest.raises(OSError, match="to a regular file only"):
        write_image(before, TREE)
    os.close(behind)
    os.close(before)
    assert os.listdir(scratch) == []


def test_target_that_is_no_regular_file_stays(scratch: Path) -> None:
    os.mkfifo(scratch / "fifo")
    (scratch / "directory").mkdir()
    for name in ("fifo", "directory"):
        with pytest.raises(OSError, match="not a regular file"):
            write_image(scratch / name, TREE)
    with pytest.raises(FileNotFoundError):
        write_image(scratch / "nowhere" / "image", TREE)
    assert sorted(os.listdir(scratch)) == ["directory", "fifo"]


class Stop(Exception):
    """Raised by a test in the middle of something."""


def endless(reason: BaseException, after: int = 40) -> Iterator[bytes]:
    """Content that fails when blocks are already with the threads."""
    for number in range(after):
        yield bytes([number]) * 100_000
    raise reason


def test_failure_cuts_a_descriptors_file_at_the_offset(scratch: Path) -> None:
    for before, after in ((10_000, 8192), (100, 100)):
        path = scratch / "package"
        path.write_bytes(b"#" * before)
        with open(path, "r+b") as file, pytest.raises(Stop):
            write_image(file.fileno(), [*TREE, FileSpec(b"x", FILE, data=endless(Stop()))], offset=8192)
        assert path.read_bytes() == b"#" * after


@pytest.mark.mounts
@pytest.mark.parametrize("named", [False, True], ids=["unnamed until complete", "named"])
def test_full_disk_leaves_nothing(named: bool, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("root")
    if named:  # as on a filesystem without O_TMPFILE
        monkeypatch.setattr("layerfs.pysquashfs.target.os.O_TMPFILE", os.O_DIRECTORY | os.O_EXCL)
    place = scratch / "small"
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place)
    (place / "image").write_bytes(b"old")
    with pytest.raises(SquashfsError) as caught:
        write_image(place / "image", [FileSpec(b"x", FILE, data=os.urandom(3_000_000))])
    assert caught.value.errno == errno.ENOSPC
    assert str(caught.value) == f"{place}/image: data blocks: No space left on device"
    assert os.listdir(place) == ["image"]
    assert (place / "image").read_bytes() == b"old"
    assert os.statvfs(place).f_bfree * 4096 > 900_000


def test_killed_writer_leaves_nothing(scratch: Path) -> None:
    program = """if True:
        import sys
        from layerfs.pysquashfs import FileSpec, write_image
        def content():
            for number in range(40):
                yield bytes([number]) * 100_000
            print("half-way", flush=True)
            sys.stdin.read()
            yield b""
        write_image(sys.argv[1], [FileSpec(b"x", 0o100644, data=content())])
    """
    command = [sys.executable, "-c", program, str(scratch / "image")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"half-way\n"
        writer.send_signal(signal.SIGKILL)
    assert os.listdir(scratch) == []


def test_image_takes_the_place_of_what_a_link_leads_to(scratch: Path) -> None:
    (scratch / "real").write_bytes(b"old")
    (scratch / "link").symlink_to("real")
    write_image(scratch / "link", TREE)
    assert os.readlink(scratch / "link") == "real"
    with SquashfsImage(scratch / "real") as image:
        assert image.superblock.inode_count == 3
    assert sorted(os.listdir(scratch)) == ["link", "real"]


def test_image_has_the_mode_that_umask_gives(scratch: Path) -> None:
    before = os.umask(0o027)
    try:
        write_image(scratch / "image", TREE)
    finally:
        os.umask(before)
    assert stat.S_IMODE((scratch / "image").stat().st_mode) == 0o640


def test_a_directory_that_is_held_open_is_written_to_wherever_its_path_leads(scratch: Path) -> None:
    (scratch / "held").mkdir()
    (scratch / "other").mkdir()
    directory = os.open(scratch / "held", os.O_RDONLY)
    try:
        (scratch / "held").rename(scratch / "moved")
        (scratch / "held").symlink_to("other")
        write_image(f"/proc/self/fd/{directory}/image", TREE)
    finally:
        os.close(directory)
    assert (os.listdir(scratch / "moved"), os.listdir(scratch / "other")) == (["image"], [])


def test_a_name_alone_is_one_in_the_working_directory(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scratch)
    write_image("image", TREE)
    assert os.listdir(scratch) == ["image"]
