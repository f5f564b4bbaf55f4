"""Numbers that a directory keeps for those of its names that carry no xattrs."""

import os
from pathlib import Path

import pytest

from layerfs.union.attrs import Change
from layerfs.union.kept_numbers import KEPT_XATTR, LIMIT
from layerfs.union.options import UnionOptions
from tests.oracle.trees import symlink
from tests.union.box import Box

XATTR = "user.overlay." + KEPT_XATTR


def test_symlinks_keep_their_numbers_without_root(scratch: Path) -> None:
    names = {b"s%d" % index: symlink(b"x") for index in range(3)}
    with Box(scratch, names, options=UnionOptions(userxattr=True)) as box:
        before = box.numbers()
        for name in names:
            box.change(name, Change(mtime_ns=7))
        assert (box.numbers(), box.again().numbers()) == (before, before)
        assert len(os.getxattr(box.upper, XATTR).split()) == 3


@pytest.mark.parametrize("value", [b"nonsense", b"1:2 x:y", b"%d:1", b"%d:0", b"%d:99999999999999999999999"])
def test_what_is_no_number_is_none(scratch: Path, value: bytes) -> None:
    with Box(scratch, {}, upper={b"s": symlink(b"x")}, options=UnionOptions(userxattr=True)) as box:
        own = os.lstat(os.path.join(box.upper, b"s")).st_ino
        before = box.ino(b"s")
        os.setxattr(box.upper, XATTR, value.replace(b"%d", b"%d" % own))
        assert box.again().ino(b"s") == before


def test_only_the_newest_are_kept(scratch: Path) -> None:
    names = {b"s%d" % index: symlink(b"x") for index in range(LIMIT + 3)}
    with Box(scratch, names, options=UnionOptions(userxattr=True)) as box:
        for name in names:
            box.change(name, Change(mtime_ns=7))
        assert len(os.getxattr(box.upper, XATTR).split()) <= LIMIT
