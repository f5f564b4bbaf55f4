"""Idmapped mounts."""

import os
from pathlib import Path

import pytest

from layerfs.sys import fsmount
from layerfs.sys.idmap import IdRun, mapped_tree, namespace_of
from layerfs.sys.mounts import unmount
from tests.host import require


@pytest.mark.mounts
def test_tree_is_shown_with_other_owners(scratch: Path) -> None:
    require("root")
    source, target = scratch / "source", scratch / "target"
    for path in (source, target, source / "file"):
        path.mkdir()
    os.chown(source / "file", 1000, 5)
    namespace = namespace_of((IdRun(0, 100000, 65536),), (IdRun(0, 200000, 65536),))
    try:
        mount = mapped_tree(os.fsencode(source), namespace)
    finally:
        os.close(namespace)
    try:
        fsmount.attach(mount, os.fsencode(target))
    finally:
        os.close(mount)
    st = (target / "file").stat()
    unmount(os.fsencode(target))
    assert (st.st_uid, st.st_gid) == (101000, 200005)
    assert (source / "file").stat().st_uid == 1000


def test_filesystem_that_cannot_map_says_so() -> None:
    require("root")
    namespace = namespace_of((IdRun(0, 100000, 1),), (IdRun(0, 100000, 1),))
    try:
        with pytest.raises(OSError):
            os.close(mapped_tree(b"/proc", namespace))
    finally:
        os.close(namespace)
