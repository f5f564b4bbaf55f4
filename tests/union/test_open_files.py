"""What a union says of files by their numbers; that their bytes are right is in test_data.py."""

import errno
import os
from pathlib import Path

import pytest

from tests.oracle.trees import directory, file
from tests.union.box import Box


def test_only_files_are_opened_and_only_with_an_upper_written(scratch: Path) -> None:
    with Box(scratch, {b"f": file(b"x"), b"d": directory()}, writable=False) as box:
        assert box.union.read_only
        node, _ = box.union.lookup(1, b"d")
        with pytest.raises(IsADirectoryError):
            box.union.open_file(node.ino, os.O_RDONLY)
        box.union.drop(node)
        node, _ = box.union.lookup(1, b"f")
        box.union.remember(node)
        box.union.open_file(node.ino, os.O_RDONLY)
        with pytest.raises(OSError) as caught:
            box.union.writable_fd(node.ino)
        assert caught.value.errno == errno.EROFS
        box.union.release(node.ino)
        box.union.forget(node.ino, 1)
        with pytest.raises(OSError) as caught:
            box.union.file(12345)
        assert caught.value.errno == errno.ESTALE
