"""Room on a filesystem: whether there is any, and what is kept."""

import errno
import os
import struct
import subprocess
from fcntl import ioctl
from pathlib import Path

import pytest

from layerfs.sys.space import allocate, full, keep_room, make_in_place
from tests.contract.subjects import a_btrfs
from tests.host import require


@pytest.fixture
def small(scratch: Path) -> Path:
    require("root")
    place = scratch / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=True)
    return place


def test_full_filesystem_is_known_by_trying(small: Path) -> None:
    assert full(os.fsencode(small)) == 0
    (small / "filler").write_bytes(bytes((1 << 20) - 4096))
    assert full(os.fsencode(small)) == errno.ENOSPC
    assert os.listdir(small) == ["filler"]


def test_what_cannot_be_tried_is_not_full(scratch: Path) -> None:
    assert full(os.fsencode(scratch / "absent")) == 0


def test_kept_room_is_there_when_all_else_is_full(small: Path) -> None:
    with open(small / "log", "wb") as log:
        keep_room(log.fileno(), 512 << 10)
        assert os.fstat(log.fileno()).st_size == 0
        with pytest.raises(OSError), open(small / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        assert log.write(bytes(512 << 10)) == 512 << 10
        log.flush()


def test_more_room_than_there_is_cannot_be_kept(small: Path) -> None:
    with open(small / "log", "wb") as log:
        keep_room(log.fileno(), 8 << 20)
        assert os.fstat(log.fileno()).st_blocks == 0


def test_file_on_btrfs_is_changed_where_it_is(scratch: Path) -> None:
    require("root", "btrfs")
    path = a_btrfs(scratch) / "file"
    make_in_place(os.fsencode(path))
    with open(path, "rb") as file:
        (flags,) = struct.unpack("l", ioctl(file, 0x80086601, bytes(8)))
    assert flags & 0x00800000  # FS_NOCOW_FL


def test_file_that_is_there_stays(scratch: Path) -> None:
    path = scratch / "file"
    path.write_text("kept")
    make_in_place(os.fsencode(path))
    make_in_place(os.fsencode(scratch / "fresh"))
    assert path.read_text() == "kept"
    assert (scratch / "fresh").stat().st_mode & 0o777 == 0o600


def test_space_is_reserved(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        allocate(file.fileno(), 0, 0, 5000)
        assert os.fstat(file.fileno()).st_size == 5000
        with pytest.raises(OSError) as caught:
            allocate(file.fileno(), 0, 0, 0)
    assert caught.value.errno == errno.EINVAL
