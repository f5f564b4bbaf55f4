"""Mounts that are made before they have a place."""

import os
from pathlib import Path

import pytest

from layerfs.sys.fsmount import attach, attributes, clone_tree, make, set_attributes
from layerfs.sys.mounts import MountFlag, unmount
from tests.host import require

pytestmark = pytest.mark.mounts


def test_a_filesystem_is_nowhere_until_it_is_attached(scratch: Path) -> None:
    require("root")
    mount = make(b"tmpfs", ("size=1m",))
    try:
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=mount))
        assert os.listdir(scratch) == []
        attach(mount, os.fsencode(scratch))
        assert os.listdir(scratch) == ["file"]
    finally:
        os.close(mount)
    unmount(os.fsencode(scratch))
    assert os.listdir(scratch) == []


def test_flags_hold_for_one_place_of_a_tree_alone(scratch: Path) -> None:
    require("root")
    source, place = scratch / "source", scratch / "place"
    source.mkdir()
    place.mkdir()
    copy = clone_tree(os.fsencode(source))
    try:
        set_attributes(copy, MountFlag.RDONLY)
        attach(copy, os.fsencode(place))
    finally:
        os.close(copy)
    with pytest.raises(OSError, match="Read-only"):
        (place / "file").touch()
    (source / "file").touch()
    assert os.listdir(place) == ["file"]


def test_flags_become_attributes() -> None:
    assert attributes(MountFlag.RDONLY | MountFlag.NOSUID) == 1 | 2  # MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID
