"""What is remembered by number: what needs it, and that it goes."""

import errno
import os
from pathlib import Path

import pytest

from layerfs.union.inodes import Directory, File
from layerfs.union.layers import DirTree, Part
from tests.oracle.trees import file
from tests.union.box import Box


def test_a_directory_stays_as_long_as_a_child_is_known(scratch: Path) -> None:
    with Box(scratch, {b"d/e/f": file()}) as box:
        union = box.union
        node, _ = union.lookup(1, b"d")
        union.remember(node)
        child, _ = union.lookup(node.ino, b"e")
        union.remember(child)
        union.forget(node.ino, 1)
        assert union.parent_of(child.ino) == node.ino
        union.forget(child.ino, 1)
        assert box.is_clean()


def test_a_forgotten_number_is_stale(scratch: Path) -> None:
    with Box(scratch, {b"f": file()}) as box:
        ino = box.ino(b"f")
        for call in (lambda: box.union.attributes(ino), lambda: box.union.directory(ino)):
            with pytest.raises(OSError) as caught:
                call()
            assert caught.value.errno == errno.ESTALE
        with box.node(b"f"), pytest.raises(NotADirectoryError):
            box.union.directory(ino)


def test_more_is_forgotten_than_was_counted(scratch: Path) -> None:
    with Box(scratch, {b"f": file()}) as box:
        node, _ = box.union.lookup(1, b"f")
        box.union.remember(node)
        box.union.forget(node.ino, 5)
        assert box.is_clean()


def test_a_listing_outlives_its_forget_within_bounds(scratch: Path) -> None:
    with Box(scratch, {b"%d/f" % index: file() for index in range(9)}) as box:
        box.ov.table.parked_limit = 30
        for index in range(9):
            assert box.names(b"%d" % index) == [b"f"]
        assert 1 < len(box.ov.table) < 9


def test_the_tree_of_a_file_is_known_without_a_name(scratch: Path) -> None:
    tree = DirTree(os.fsencode(scratch), 3)
    try:
        node = File(5, Directory(1, None, b"", ()), b"f", Part(tree, None, b"", tree.root()), 8)
        assert (node.tree, node.is_upper, node.is_regular) == (tree, False, True)
        node.part = None
        with pytest.raises(OSError, match="Stale"):
            assert node.tree
        node.opened().unnamed_in = tree
        assert node.tree is tree
    finally:
        tree.close()
