"""From names to nodes: one node an object, and what is shown of it."""

import errno
import os
from pathlib import Path

import pytest

from layerfs.union.lookup import lookup_directory
from layerfs.union.options import UnionOptions
from tests.oracle.trees import Layer, directory, file, hardlink
from tests.union.box import Box

LOWER: Layer = {b"a": file(b"data"), b"b": hardlink(b"a"), b"d/f": file(), b"e": directory()}


@pytest.mark.parametrize(
    ("name", "code"), [(b"absent", errno.ENOENT), (b"n" * 256, errno.ENAMETOOLONG), (b"n" * 255, errno.ENOENT)]
)
def test_what_is_not_there(scratch: Path, name: bytes, code: int) -> None:
    with Box(scratch, LOWER) as box:
        with pytest.raises(OSError) as caught:
            box.union.lookup(1, name)
        assert caught.value.errno == code


def test_names_of_one_file_are_one_node(scratch: Path) -> None:
    with Box(scratch, LOWER) as box, box.node(b"a") as first, box.node(b"b") as second:
        assert first is second
        box.unlink(b"a")
        assert (box.stat(b"b").st_nlink, box.union.attributes(first.ino).st_nlink) == (1, 1)


def test_a_directory_is_asked_for(scratch: Path) -> None:
    with Box(scratch, LOWER) as box:
        assert lookup_directory(box.ov, box.ov.root, b"d").name == b"d"
        with pytest.raises(NotADirectoryError):
            lookup_directory(box.ov, box.ov.root, b"a")


@pytest.mark.parametrize("static", [False, True])
def test_a_merged_directory_shows_one_link(scratch: Path, static: bool) -> None:
    options = UnionOptions(static_nlink=static)
    with Box(
        scratch, {b"d/sub": directory()}, {b"d/other": directory()}, {b"one/sub": directory()}, options=options
    ) as box:
        assert box.stat(b"d").st_nlink == 1
        alone = os.stat(os.path.join(box.layer(3), b"one")).st_nlink
        assert box.stat(b"one").st_nlink == (1 if static else alone)


def test_a_file_that_was_removed_and_made_again_is_another(scratch: Path) -> None:
    with Box(scratch, LOWER) as box, box.opened(b"a") as old:
        box.unlink(b"a")
        box.create(b"a", b"new")
        with box.node(b"a") as new:
            assert new is not old and new.ino != old.ino
        assert os.pread(box.data_fd(old.ino), 9, 0) == b"data"
