"""Small files: whole or not at all, and no FIFO that holds us."""

import errno
import os
from pathlib import Path

import pytest

from layerfs.sys.files import allocate, filesystem_type, open_regular, syncfs, write_back, write_whole


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = bytes(tmp_path / "file")
    write_whole(path, b"one")
    write_whole(path, b"two", 0o644)
    assert Path(os.fsdecode(path)).read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["file"]
    (tmp_path / "directory").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(bytes(tmp_path / "directory"), b"three")
    assert sorted(os.listdir(tmp_path)) == ["directory", "file"]


def test_only_a_regular_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("file")
    for good in ("file", "link"):
        fd = open_regular(bytes(tmp_path / good))
        assert os.read(fd, 7) == b"content"
        os.close(fd)
    for name in (b"fifo", b"/dev/null", b"."):
        with pytest.raises(OSError, match="not a regular file") as caught:
            open_regular(os.path.join(bytes(tmp_path), name))
        assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError) as caught:
        open_regular(bytes(tmp_path / "link"), os.O_RDONLY | os.O_NOFOLLOW)
    assert caught.value.errno == errno.ELOOP


def test_a_filesystem_is_written_back(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    syncfs(fd)
    os.close(fd)


def test_only_a_fuse_mount_is_written_back_where_only_that_is_meant(tmp_path: Path) -> None:
    write_back(bytes(tmp_path))
    with pytest.raises(OSError) as caught:
        write_back(bytes(tmp_path), only_fuse=True)
    assert caught.value.errno == errno.ENODEV
    fd = os.open("/proc", os.O_RDONLY)
    assert filesystem_type(fd) == 0x9FA0  # PROC_SUPER_MAGIC
    os.close(fd)


def test_space_is_reserved(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        allocate(file.fileno(), 0, 0, 5000)
        assert os.fstat(file.fileno()).st_size == 5000
        with pytest.raises(OSError) as caught:
            allocate(file.fileno(), 0, 0, 0)
    assert caught.value.errno == errno.EINVAL
