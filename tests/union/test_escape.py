"""What an inner overlay writes is stored apart from what the outer one reads, and found again."""

import os
from pathlib import Path

import pytest

from layerfs.union.attrs import Change
from layerfs.union.escape import is_copied, shown, stored
from layerfs.union.whiteout import is_private
from tests.oracle.trees import Kind, Node, directory, file
from tests.union.box import Box

PAIRS = {
    "trusted.overlay.opaque": "trusted.overlay.overlay.opaque",
    "user.overlay.overlay.opaque": "user.overlay.overlay.overlay.opaque",
    "security.overlay.x": "security.overlay.overlay.x",
    "user.fuseoverlayfs.opaque": "user.overlay.overlay..fuseoverlayfs.opaque",
    "security.fuseoverlayfs.override_stat": "security.overlay.overlay..fuseoverlayfs.override_stat",
    "user.containers.override_stat": "user.overlay.overlay..containers.override_stat",
    "user.mine": "user.mine",
    "system.posix_acl_access": "system.posix_acl_access",
    "user.overlayed": "user.overlayed",
}


@pytest.mark.parametrize(("name", "kept"), PAIRS.items())
def test_names_come_back_and_are_copied(name: str, kept: str) -> None:
    assert (stored(name), shown(kept), is_copied(kept)) == (kept, name, True)


@pytest.mark.parametrize("name", [name for name in PAIRS if is_private(name) and ".overlay.overlay." not in name])
def test_what_is_stored_under_its_own_name_is_ours(name: str) -> None:
    assert shown(name) is None and not is_copied(name)


def test_marks_of_two_depths_do_not_meet(scratch: Path) -> None:
    """A layer of an outer overlay that holds an inner one's storage, copied up and read again."""
    inner = (("trusted.overlay.overlay.opaque", b"y"), ("trusted.overlay.overlay.overlay.redirect", b"deeper"))
    with Box(scratch, {b"d": directory(xattrs=inner)}, {b"d/below": file()}) as box:
        for _ in range(2):
            with box.node(b"d") as node:
                assert box.names(b"d") == [b"below"]
                assert sorted(box.union.list_xattrs(node.ino)) == [
                    b"trusted.overlay.opaque",
                    b"trusted.overlay.overlay.redirect",
                ]
                assert box.union.get_xattr(node.ino, b"trusted.overlay.opaque") == b"y"
            box.change(b"d", Change(mode=0o700))


def test_an_inner_whiteout_of_a_lower_stays_one_when_it_is_copied_up(scratch: Path) -> None:
    mark = (("trusted.overlay.layerfs.device", b"0:0"), ("trusted.overlay.overlay.whiteout", b"y"))
    with Box(scratch, {b"w": file(b"", xattrs=mark), b"full": file(b"full", xattrs=mark)}) as box:
        box.change(b"w", Change(mtime_ns=5))
        assert box.again().tree() == {b"full": b"full", b"w": ("c", 0)}
        assert os.path.isfile(os.path.join(box.upper, b"w"))


def test_a_real_whiteout_still_hides(scratch: Path) -> None:
    with Box(scratch, {b"w": Node(Kind.CHAR, rdev=(0, 0))}, {b"w": file()}) as box:
        assert box.tree() == {}
