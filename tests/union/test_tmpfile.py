"""Files that are made without a name, and may get one."""

import errno
import os
from pathlib import Path

import pytest

from layerfs.union.mutate import Caller
from tests.oracle.trees import directory, file
from tests.union.box import Box

ROOT = Caller(0, 0, 0o022)


def test_it_is_kept_until_its_last_user_goes(scratch: Path) -> None:
    with Box(scratch, {b"d": directory(), b"d/low": file(b"x")}) as box:
        union = box.union
        parent, _ = union.lookup(1, b"d")
        union.remember(parent)
        node = union.make_unnamed(parent.ino, 0o666, ROOT)
        union.remember(node)
        os.pwrite(union.writable_fd(node.ino), b"data", 0)
        st = union.attributes(node.ino)
        assert (st.st_nlink, st.st_size, st.st_mode) == (0, 4, 0o100644)
        assert union.names(parent.ino) == [b"low"]
        union.forget(parent.ino, 1)
        union.release(node.ino)
        assert union.attributes(node.ino).st_size == 4
        union.forget(node.ino, 1)
        with pytest.raises(OSError) as caught:
            union.attributes(node.ino)
        assert caught.value.errno == errno.ESTALE
        assert os.listdir(box.work + b"/work") == []


def test_its_first_name_makes_it_a_file_like_any_other(scratch: Path) -> None:
    with Box(scratch, {b"d": directory(), b"gone": file(b"x")}) as box:
        union = box.union
        union.unlink(1, b"gone")
        node = union.make_unnamed(1, 0o666, ROOT)
        union.remember(node)
        os.pwrite(union.writable_fd(node.ino), b"data", 0)
        with pytest.raises(FileExistsError):
            union.link(node.ino, 1, b"d")
        assert union.link(node.ino, 1, b"gone") is node
        assert union.attributes(node.ino).st_nlink == 1
        union.link(node.ino, 1, b"two")
        assert union.attributes(node.ino).st_nlink == 2
        assert os.listdir(box.work + b"/work") == [b"whiteout"]
        union.unlink(1, b"gone")
        union.unlink(1, b"two")
        with pytest.raises(FileNotFoundError):  # it was made without a name, but that is over
            union.link(node.ino, 1, b"three")
        union.release(node.ino)
        union.forget(node.ino, 1)
        assert box.again().tree() == {b"d": "dir"}


def test_one_that_nobody_named_is_gone_with_the_mount(scratch: Path) -> None:
    with Box(scratch, {b"f": file(b"x")}) as box:
        box.union.make_unnamed(1, 0o666, ROOT)
        assert len(os.listdir(box.work + b"/work")) == 1
        again = box.again()
        assert again.tree() == {b"f": b"x"}
        assert os.listdir(box.work + b"/work") == []


def test_there_is_none_in_a_directory_that_was_removed(scratch: Path) -> None:
    with Box(scratch, {b"d": directory()}) as box:
        parent, _ = box.union.lookup(1, b"d")
        box.union.remember(parent)
        box.union.rmdir(1, b"d")
        with pytest.raises(FileNotFoundError):
            box.union.make_unnamed(parent.ino, 0o666, ROOT)
        box.union.forget(parent.ino, 1)
