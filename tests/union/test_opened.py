"""Handles of open files, whether the host's or an image's."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from layerfs.union import opened


class InImage:
    """What an open file of an image offers, as far as it is asked here."""

    ref = "inode"

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.tree = self

    def stat(self) -> Any:
        return os.stat_result((0o100644, 1, 1, 1, 0, 0, len(self.data), 0, 0, 0))

    def readlink(self) -> bytes:
        return self.data

    def copy(self, target: int, size: int, *_: object) -> None:
        os.write(target, self.data[:size])

    def listxattr(self, ref: str) -> list[str]:
        return ["user.a"]

    def getxattr(self, ref: str, name: str) -> bytes:
        return b"1"


def test_a_descriptor_is_asked_and_closed(scratch: Path) -> None:
    (scratch / "f").write_bytes(b"data")
    fd = os.open(scratch / "f", os.O_RDONLY | os.O_CLOEXEC)
    again = opened.reopen(fd, os.O_RDWR)
    assert isinstance(again, int) and again != fd
    assert (opened.stat(fd).st_size, opened.xattrs(fd), opened.getxattr_or_none(fd, "user.a")) == (4, [], None)
    opened.close(again)
    opened.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_file_of_an_image_needs_no_descriptor(scratch: Path) -> None:
    file: Any = InImage(b"data")
    assert opened.reopen(file, os.O_RDONLY) is file
    assert (opened.stat(file).st_size, opened.readlink(file), opened.ref(file)) == (4, b"data", "inode")
    assert (opened.xattrs(file), opened.getxattr_or_none(file, "user.a")) == (["user.a"], b"1")
    assert opened.getxattr_or_none(file, "user.b") is None
    opened.close(file)
    with pytest.raises(OSError) as caught:
        opened.target(file)
    assert caught.value.errno == errno.EROFS
