"""Directories that are cut off their lowers."""

import os
from pathlib import Path

import pytest

from layerfs.union.attrs import Change
from layerfs.union.flatten import flatten
from layerfs.union.inodes import Directory, File
from layerfs.union.options import RedirectDir, UnionOptions
from layerfs.union.state import FEW, Writable
from tests.oracle.trees import WHITEOUT, Layer, file, symlink
from tests.union.box import Box, marks_of
from tests.union.test_pool import a_plain_user

LOWER: Layer = {b"d/f": file(b"f"), b"d/e/g": file(b"g"), b"d/gone": file(), b"d/s": symlink(b"f")}


def test_a_tree_is_brought_up_whole_and_shows_the_same(scratch: Path) -> None:
    with Box(scratch, LOWER, upper={b"d/gone": WHITEOUT, b"d/own": file(b"own")}) as box, box.node(b"d") as node:
        before, numbers = box.tree(), box.numbers()
        assert isinstance(node, Directory) and isinstance(box.ov, Writable)
        assert len([step for step in flatten(box.ov, node) if isinstance(step, File)]) == 3
        assert (box.tree(), box.numbers()) == (before, numbers)
        assert marks_of(box.upper) == {b"d": "opaque y", b"d/e": "opaque y"}


def test_a_step_that_others_come_in_at_counts(scratch: Path) -> None:
    """What is removed while a tree is copied does not come back."""
    with Box(scratch, LOWER) as box, box.node(b"d") as node:
        assert isinstance(node, Directory) and isinstance(box.ov, Writable)
        steps = flatten(box.ov, node)
        assert next(steps) is node  # to be listed
        first = next(step for step in steps if isinstance(step, File))
        assert first.parent is not None
        for name in (b"f", b"gone", b"s"):
            if name != first.name:
                box.unlink(b"d/" + name)
        for _ in steps:
            pass
        assert set(box.names(b"d")) - {first.name, b"e"} == set()


@pytest.mark.parametrize("xattrs", [True, False])
def test_a_directory_that_its_owner_may_not_write_to_is_renamed_and_replaced(scratch: Path, xattrs: bool) -> None:
    """EACCES: whoever is not root could not mark it opaque by a file, nor remove the whiteouts in it."""
    mine, lower = (1234, 1234), {b"d/f": file(b"f"), b"d/gone": file(), b"e/gone": file()}
    with a_plain_user(scratch), Box(scratch, lower, owner=mine) as box:
        box.marks.xattrs = xattrs
        for name in (b"d", b"e"):
            box.unlink(name + b"/gone")
            with box.node(name) as node:
                box.union.set_attributes(node.ino, Change(mode=0o555))
        box.rename(b"d", b"moved")
        box.mkdir(b"new")
        box.rename(b"new", b"e")
        assert box.again().tree() == {b"moved": "dir", b"moved/f": b"f", b"e": "dir"}
        assert os.stat(os.path.join(box.upper, b"moved")).st_mode & 0o777 == 0o555


MANY = 3 * FEW


def test_what_copies_nothing_is_stepwise_too(scratch: Path) -> None:
    """Names that the upper had, and whiteouts that were not needed any more, took one step: seconds for 100,000."""
    names = [b"%d" % number for number in range(MANY)]
    lower: Layer = {b"d/gone" + name: file() for name in names}
    upper: Layer = {b"d/gone" + name: WHITEOUT for name in names} | {b"d/own" + name: file() for name in names}
    with Box(scratch, lower, upper=upper) as box, box.node(b"d") as node:
        assert isinstance(node, Directory) and isinstance(box.ov, Writable)
        steps = flatten(box.ov, node)
        assert sum(step is None for step in steps) >= 2 * MANY // FEW - 2
        assert marks_of(box.upper) == {b"d": "opaque y"} and len(box.names(b"d")) == MANY
        assert len(box.again().names(b"d")) == MANY


def test_a_name_that_is_made_over_a_whiteout_between_two_steps_stays(scratch: Path) -> None:
    names = [b"%d" % number for number in range(MANY)]
    lower: Layer = {b"d/" + name: file() for name in names}
    with Box(scratch, lower, upper=dict.fromkeys(lower, WHITEOUT)) as box:
        with box.node(b"d") as node:
            assert isinstance(node, Directory) and isinstance(box.ov, Writable)
            steps = flatten(box.ov, node)
            assert next(steps) is node and next(steps) is None
            made, removed = [os.fsencode(name) for name in sorted(os.listdir(os.path.join(box.upper, b"d")))[:2]]
            for name in (made, removed):
                box.create(b"d/" + name, b"new")
            box.unlink(b"d/" + removed)
            for _ in steps:
                pass
        assert box.names(b"d") == [made] and box.read(b"d/" + made) == b"new"
        assert box.again().names(b"d") == [made] and marks_of(box.upper) == {b"d": "opaque y"}


@pytest.mark.parametrize("mode", [RedirectDir.ON, RedirectDir.OFF])
def test_a_rename_redirects_or_copies(scratch: Path, mode: RedirectDir) -> None:
    with Box(scratch, LOWER, options=UnionOptions(redirect_dir=mode)) as box:
        box.rename(b"d", b"new")
        assert os.path.exists(os.path.join(box.upper, b"new/f")) is (mode is RedirectDir.OFF)
        assert box.again().read(b"new/e/g") == b"g"
