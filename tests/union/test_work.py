"""The scratch directory: what it takes over, what it leaves, and what it passes on."""

import os
from pathlib import Path

import pytest

from tests.oracle.trees import file
from tests.union.box import Box

ACL = bytes.fromhex("0200000001000500ffffffff04000500ffffffff20000500ffffffff")


def test_the_scratch_directory_inherits_no_default_acl(scratch: Path) -> None:
    """xfstests overlay/023: it did from the parent of the work directory, and what was made in it did from there."""
    os.setxattr(scratch, "system.posix_acl_default", ACL)
    with Box(scratch, {b"f": file(b"f")}) as box:
        assert [os.listxattr(os.path.join(box.work, name)) for name in (b"work",)] == [[]]
        box.write(b"f", b"F")
        box.unlink(b"f")
        box.create(b"f", mode=0o666)
        assert os.stat(os.path.join(box.work, b"work")).st_mode & 0o777 == 0o700


@pytest.mark.parametrize("left", ["work/3/deep/file", "work/#3", "index/00fb"])
def test_what_a_crash_left_is_removed(scratch: Path, left: str) -> None:
    with Box(scratch, {b"f": file()}) as box:
        box.union.close()
        place = scratch / "work" / left
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
        box.union = box._open()
        assert not place.exists()


def test_what_is_not_ours_stays(scratch: Path) -> None:
    with Box(scratch, {b"f": file()}) as box:
        (scratch / "work/mine").write_text("mine")
        assert box.again().union.read_only is False
        assert (scratch / "work/mine").read_text() == "mine"
