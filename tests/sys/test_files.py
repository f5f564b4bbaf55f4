"""Small files: whole or not at all, and no FIFO that holds us."""

import errno
import os
from pathlib import Path

import pytest

from layerfs.sys.files import NotRegular, content, open_regular, write_whole


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
        with pytest.raises(NotRegular, match="not a regular file") as caught:
            open_regular(os.path.join(bytes(tmp_path), name))
        assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError) as followed:
        open_regular(bytes(tmp_path / "link"), os.O_RDONLY | os.O_NOFOLLOW)
    assert followed.value.errno == errno.ELOOP


def test_a_file_of_many_pieces_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(256)) * 300)
    assert content(str(tmp_path / "file")) == bytes(range(256)) * 300
    (tmp_path / "empty").touch()
    assert content(bytes(tmp_path / "empty")) == b""
