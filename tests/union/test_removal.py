"""Removing names: what is left on disk, and what who still uses it finds."""

import errno
import os
from pathlib import Path

import pytest

from tests.oracle.trees import WHITEOUT, Layer, directory, file
from tests.union.box import Box, marks_of

LOWER: Layer = {b"f": file(b"f"), b"d/x": file(), b"e": directory()}


@pytest.mark.parametrize(("path", "code"), [(b"d", errno.EISDIR), (b"absent", errno.ENOENT)])
def test_unlink_of_what_is_no_file(scratch: Path, path: bytes, code: int) -> None:
    with Box(scratch, LOWER) as box, pytest.raises(OSError) as caught:
        box.unlink(path)
    assert caught.value.errno == code


@pytest.mark.parametrize(("path", "code"), [(b"f", errno.ENOTDIR), (b"d", errno.ENOTEMPTY), (b"absent", errno.ENOENT)])
def test_rmdir_of_what_is_no_empty_directory(scratch: Path, path: bytes, code: int) -> None:
    with Box(scratch, LOWER) as box, pytest.raises(OSError) as caught:
        box.rmdir(path)
    assert caught.value.errno == code


def test_only_what_the_lowers_have_gets_a_whiteout(scratch: Path) -> None:
    with Box(scratch, LOWER, upper={b"own": file(), b"mine": directory()}) as box:
        for path in (b"f", b"own"):
            box.unlink(path)
        for path in (b"e", b"mine"):
            box.rmdir(path)
        assert marks_of(box.upper) == {b"f": "whiteout", b"e": "whiteout"}
        assert box.again().tree() == {b"d": "dir", b"d/x": b""}


def test_a_directory_with_whiteouts_alone_is_empty(scratch: Path) -> None:
    with Box(scratch, LOWER, upper={b"d/x": WHITEOUT, b"own/w": WHITEOUT}) as box:
        box.rmdir(b"d")
        box.rmdir(b"own")
        assert (box.again().names(), marks_of(box.upper)) == ([b"e", b"f"], {b"d": "whiteout"})
        assert os.listdir(os.path.join(box.work, b"work")) in ([], [b"whiteout"])


def test_who_is_in_a_removed_directory_finds_it_empty(scratch: Path) -> None:
    with Box(scratch, LOWER) as box, box.node(b"e") as node:
        box.rmdir(b"e")
        box.mkdir(b"e")
        assert (box.union.names(node.ino), box.union.attributes(node.ino).st_nlink) == ([], 0)
        with pytest.raises(FileNotFoundError):
            box.union.create(node.ino, b"late", 0o644, box.caller)
