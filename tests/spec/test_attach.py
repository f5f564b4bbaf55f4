"""What the kernel is told when it mounts FUSE."""

from layerfs.spec.attach import AttachOptions
from layerfs.spec.options import parse
from layerfs.sys.mounts import MountFlag


def test_what_nobody_asked_for_is_left_to_the_mount() -> None:
    assert parse([]).attach == AttachOptions()
    assert AttachOptions().allow_other is None


def test_options_about_the_mount_are_kept_beside_those_of_the_union() -> None:
    found = parse([b"fsname=base,subtype=tree,allow_other=0,max_read=65536,nodev"]).attach
    assert found == AttachOptions(MountFlag.NODEV, b"base", b"tree", False, 65536)
