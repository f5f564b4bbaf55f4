"""Directories that are cut off their lowers."""

import os
from pathlib import Path

import pytest

from layerfs.union.flatten import flatten
from layerfs.union.inodes import Directory
from layerfs.union.options import RedirectDir, UnionOptions
from layerfs.union.state import Writable
from tests.oracle.trees import WHITEOUT, Layer, file, symlink
from tests.union.box import Box, marks_of

LOWER: Layer = {b"d/f": file(b"f"), b"d/e/g": file(b"g"), b"d/gone": file(), b"d/s": symlink(b"f")}


def test_a_tree_is_brought_up_whole_and_shows_the_same(scratch: Path) -> None:
    with Box(scratch, LOWER, upper={b"d/gone": WHITEOUT, b"d/own": file(b"own")}) as box, box.node(b"d") as node:
        before, numbers = box.tree(), box.numbers()
        assert isinstance(node, Directory) and isinstance(box.ov, Writable)
        assert [step.name for step in flatten(box.ov, node)] != []
        assert (box.tree(), box.numbers()) == (before, numbers)
        assert marks_of(box.upper) == {b"d": "opaque y", b"d/e": "opaque y"}


def test_a_step_that_others_come_in_at_counts(scratch: Path) -> None:
    """What is removed while a tree is copied does not come back."""
    with Box(scratch, LOWER) as box, box.node(b"d") as node:
        assert isinstance(node, Directory) and isinstance(box.ov, Writable)
        steps = flatten(box.ov, node)
        first = next(steps)
        assert first.parent is not None
        for name in (b"f", b"gone", b"s"):
            if name != first.name:
                box.unlink(b"d/" + name)
        for _ in steps:
            pass
        assert set(box.names(b"d")) - {first.name, b"e"} == set()


@pytest.mark.parametrize("mode", [RedirectDir.ON, RedirectDir.OFF])
def test_a_rename_redirects_or_copies(scratch: Path, mode: RedirectDir) -> None:
    with Box(scratch, LOWER, options=UnionOptions(redirect_dir=mode)) as box:
        box.rename(b"d", b"new")
        assert os.path.exists(os.path.join(box.upper, b"new/f")) is (mode is RedirectDir.OFF)
        assert box.again().read(b"new/e/g") == b"g"
