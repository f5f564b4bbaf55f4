"""One share of a directory, opened and read here, or gone on with after somebody else has opened it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.union.layers import DirTree, Kind
from layerfs.union.reading import Reading
from layerfs.union.whiteout import PLAIN
from tests.host import require
from tests.oracle.trees import Kind as What
from tests.oracle.trees import Marks, Node, build, directory, file

LAYER = {b"d": directory(), b"d/x": file(b"1"), b"d/gone": Node(What.WHITEOUT), b"plain/y": file(b"1")}


@pytest.fixture
def tree(scratch: Path) -> Iterator[DirTree]:
    require("root")
    build(os.fsencode(scratch / "l"), LAYER, Marks.XATTR)
    tree = DirTree(os.fsencode(scratch / "l"), 1)
    yield tree
    tree.close()


@pytest.fixture
def fd(tree: DirTree) -> Iterator[int]:
    fd = tree.open_dir(tree.root(), b"d")
    yield fd
    os.close(fd)


def test_names_and_marks_are_read(tree: DirTree, fd: int) -> None:
    handle, marks, entries, failure = Reading(tree, fd, b"", scan=True)()
    assert (handle, failure) == (fd, None)
    assert marks.xattr_whiteouts
    assert sorted(entries) == [(b"gone", Kind.WHITEOUT), (b"x", Kind.OTHER)]


def test_marks_alone_are_read_where_no_names_are_wanted(tree: DirTree, fd: int) -> None:
    _, marks, entries, _ = Reading(tree, fd, b"", scan=False)()
    assert marks.xattr_whiteouts
    assert list(entries) == []


def test_what_was_listed_elsewhere_counts_only_where_no_file_is_a_whiteout(tree: DirTree, fd: int) -> None:
    """In such a directory an empty file may be one, which its kind does not tell."""
    listed = [(b"gone", Kind.OTHER), (b"x", Kind.OTHER)]
    _, _, entries, _ = Reading(tree, fd, b"", scan=True).go_on(fd, entries=listed)
    assert sorted(entries) == [(b"gone", Kind.WHITEOUT), (b"x", Kind.OTHER)]
    _, marks, entries, _ = Reading(tree, fd, b"", scan=True).go_on(fd, has_marks=False, entries=listed)
    assert (marks, entries) == (PLAIN, listed)


def test_a_failure_is_returned(tree: DirTree) -> None:
    handle, _, entries, failure = Reading(tree, tree.root(), b"absent", scan=True)()
    assert (handle, list(entries)) == (-1, [])
    assert isinstance(failure, FileNotFoundError)
