"""`Mount` values made into mounts: overlays, binds, several at one place, and nothing left of those that fail."""

import os
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument
from layerfs.model import Mount, Stack
from layerfs.mounts.apply import mount_all
from layerfs.spec.overlay import bind_mount, overlay_mount
from layerfs.sys.mounts import MountFlag, mountinfo
from tests.conftest import mounts_below
from tests.host import require

NAMES = ("a,b", "c:d", r"e\f", "upper", "work", "target")


@pytest.fixture
def place(scratch: Path) -> Path:
    require("root")
    require("kernel overlay")
    for name in NAMES:
        (scratch / name).mkdir()
        (scratch / name / f"from {name}").touch()
    (scratch / "work" / "from work").unlink()
    return scratch


def paths(place: Path, *names: str) -> tuple[bytes, ...]:
    return tuple(os.fsencode(place / name) for name in names)


def test_an_overlay_of_awkward_names_is_mounted(place: Path) -> None:
    (target, upper, work) = paths(place, "target", "upper", "work")
    stack = Stack(paths(place, *NAMES[:3]), upper, work)
    mount_all((overlay_mount(stack, ("xino=auto",), MountFlag.NOSUID),), target)
    assert sorted(os.listdir(target)) == sorted(f"from {name}".encode() for name in (*NAMES[:3], "upper"))
    (info,) = [info for info in mountinfo() if info.target == target]
    assert b"nosuid" in info.options


def test_a_stack_of_one_is_a_mount_too(place: Path) -> None:
    (target,) = paths(place, "target")
    mount_all((overlay_mount(Stack(paths(place, "c:d"))),), target)
    assert os.listdir(target) == [b"from c:d"]
    with pytest.raises(OSError, match="Read-only"):
        os.mkdir(os.path.join(target, b"new"))


def test_mounts_lie_on_and_below_each_other(place: Path) -> None:
    (target,) = paths(place, "target")
    (place / "c:d" / "below").mkdir()
    (lower, other) = paths(place, "c:d", "a,b")
    below = Mount("bind", os.fsdecode(other), ("rbind", "ro"), "below")
    mount_all((bind_mount(lower, read_only=False), below), target)
    assert os.listdir(os.path.join(target, b"below")) == [b"from a,b"]


def test_nothing_is_left_of_mounts_when_one_fails(place: Path) -> None:
    (target, lower) = paths(place, "target", "c:d")
    with pytest.raises(InvalidArgument, match="names no lowerdir"):
        mount_all((bind_mount(lower, read_only=True), Mount("overlay", "overlay", ("ro",))), target)
    assert mounts_below(place) == []
