"""The metadata of a copy."""

import os
import stat
from pathlib import Path

import pytest

from layerfs.union.metadata import copy_metadata
from tests.oracle.trees import file
from tests.union.box import Box


@pytest.mark.parametrize("mode", [0o644, 0o200, 0o4755])
def test_a_copy_has_owner_mode_xattrs_and_times_of_its_original(scratch: Path, mode: int) -> None:
    """setuid, which chown takes, comes after the owner, and the times after everything."""
    with Box(scratch, {b"f": file(b"data", mode, uid=7, gid=8, xattrs=(("user.a", b"1"),))}) as box:
        original, copy = os.path.join(box.layer(1), b"f"), scratch / "copy"
        tree = box.ov.lowers[0]
        st = tree.lstat(tree.root(), b"f")
        with open(copy, "wb") as new:
            copy_metadata(box.ov, tree, tree.reach(tree.root(), b"f"), new.fileno(), st)  # type: ignore[arg-type]
        found, wanted = os.stat(copy), os.stat(original)
        fields = ("st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_atime_ns")
        assert [getattr(found, field) for field in fields] == [getattr(wanted, field) for field in fields]
        assert stat.S_IMODE(found.st_mode) == mode and os.getxattr(copy, "user.a") == b"1"
