"""Attaching the device: as root with mount(2), without by fusermount3, and every refusal in words."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument, LayerfsError, NotFound, Unsupported
from layerfs.fuse import mount
from layerfs.fuse.mount import attach, check_mountpoint, others_permitted
from layerfs.spec.attach import AttachOptions
from layerfs.spec.options import parse
from layerfs.sys.mounts import MountInfo, mountinfo
from tests.host import PROJECT, Person, require


def mounted(place: Path) -> MountInfo:
    """What mountinfo says of a mountpoint."""
    return next(info for info in mountinfo() if info.target == os.fsencode(place))


@pytest.fixture
def mountpoint(scratch: Path) -> Iterator[Path]:
    place = scratch / "mnt,with space"
    place.mkdir()
    yield place


def options(text: bytes = b"") -> AttachOptions:
    return parse([text]).attach


def test_root_mounts_for_all_with_the_kernel_checking_permissions(mountpoint: Path) -> None:
    require("root", "fuse")
    os.close(attach(os.fsencode(mountpoint), options(b"nosuid,noatime,max_read=65536")))
    info = mounted(mountpoint)
    assert (info.type, info.source) == (b"fuse.layerfs", b"layerfs")
    assert {b"default_permissions", b"allow_other", b"user_id=0", b"group_id=0", b"max_read=65536"} <= set(
        info.super_options
    )
    assert {b"rw", b"nosuid", b"noatime"} <= set(info.options)
    assert b"nodev" not in info.options


def test_source_subtype_and_read_only_are_shown(mountpoint: Path) -> None:
    require("root", "fuse")
    os.close(attach(os.fsencode(mountpoint), options(rb"fsname=a\,b,subtype=other,ro,nodev,noexec")))
    info = mounted(mountpoint)
    assert (info.type, info.source) == (b"fuse.other", b"a,b")
    assert {b"ro", b"nodev", b"noexec"} <= set(info.options)


@pytest.mark.parametrize(
    "word", ["lazytime", "sync", "dirsync", "strictatime", "relatime", "nosymfollow", "nodiratime"]
)
def test_the_kernel_takes_every_generic_option(mountpoint: Path, word: str) -> None:
    require("root", "fuse")
    os.close(attach(os.fsencode(mountpoint), options(word.encode())))
    assert mounted(mountpoint).type == b"fuse.layerfs"


def test_the_descriptor_is_the_device_and_is_not_inherited(mountpoint: Path) -> None:
    require("root", "fuse")
    device = attach(os.fsencode(mountpoint), options())
    try:
        assert os.readlink(f"/proc/self/fd/{device}") == "/dev/fuse"
        assert not os.get_inheritable(device)
    finally:
        os.close(device)


ATTACH = """
import os, sys
from layerfs.errors import LayerfsError
from layerfs.fuse.mount import attach
from layerfs.spec.options import parse
try:
    device = attach(os.fsencode(sys.argv[1]), parse([os.fsencode(sys.argv[2])]).attach)
except LayerfsError as error:
    sys.exit(f"{type(error).__name__}: {error}")
print(os.readlink(f"/proc/self/fd/{device}"), os.get_inheritable(device))
print([line for line in open("/proc/self/mountinfo") if sys.argv[1].replace(" ", chr(92) + "040") in line][0])
os.close(device)
"""


def attach_as(person: Person, place: Path, text: str = "") -> "subprocess.CompletedProcess[str]":
    """Attach as somebody without root, in a process of theirs."""
    require("fuse")
    return person.run([sys.executable, "-c", ATTACH, place, text], cwd=PROJECT, check=False)


def test_without_root_fusermount3_mounts(person: Person) -> None:
    place = person.home / "my mnt"
    person.owns(place)
    done = attach_as(person, place, r"fsname=a\,b,noexec,noatime,relatime,lazytime")
    assert done.returncode == 0, done.stderr
    device, line, *_ = done.stdout.splitlines()
    assert device == "/dev/fuse False"
    for word in ("fuse.layerfs a,b", "nosuid,nodev,noexec,noatime", f"user_id={person.uid}", "default_permissions"):
        assert word in line
    assert "allow_other" not in line or others_permitted_by_conf()


def others_permitted_by_conf() -> bool:
    conf = Path(mount.CONF)
    return conf.exists() and "user_allow_other" in conf.read_text().split()


def test_allow_other_without_permission_is_refused_with_the_next_step(person: Person) -> None:
    if others_permitted_by_conf():
        return
    person.owns(place := person.home / "mnt")
    done = attach_as(person, place, "allow_other")
    assert "Unsupported: allow_other is not permitted" in done.stderr
    assert "/etc/fuse.conf" in done.stderr


def test_somebody_elses_mountpoint_is_refused_in_fusermounts_words(person: Person, scratch: Path) -> None:
    require("root")
    place = scratch / "roots"
    place.mkdir()
    done = attach_as(person, place)
    assert done.returncode == 1
    assert "Unsupported: fusermount3: " in done.stderr
    assert str(place) in done.stderr


def test_nosymfollow_without_root_is_refused_rather_than_forgotten(person: Person) -> None:
    person.owns(place := person.home / "mnt")
    assert "nosymfollow" in attach_as(person, place, "nosymfollow").stderr


def test_in_a_user_namespace_its_root_mounts_by_itself(person: Person) -> None:
    require("fuse", "userns")
    person.owns(place := person.home / "mnt")
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", ATTACH, str(place), ""]
    done = person.run(command, cwd=PROJECT, check=False)
    assert done.returncode == 0, done.stderr
    assert "user_id=0" in done.stdout
    assert "allow_other" in done.stdout


def test_a_missing_mountpoint_and_a_file_are_refused(scratch: Path) -> None:
    (scratch / "file").touch()
    with pytest.raises(NotFound, match="absent"):
        check_mountpoint(os.fsencode(scratch / "absent"))
    with pytest.raises(InvalidArgument, match="file is not a directory"):
        attach(os.fsencode(scratch / "file"), options())


def test_a_dead_mount_in_the_way_is_named_with_the_way_out(mountpoint: Path) -> None:
    require("root", "fuse")
    os.close(attach(os.fsencode(mountpoint), options()))
    with pytest.raises(InvalidArgument, match=r"server is dead \(hint: layerfs umount"):
        attach(os.fsencode(mountpoint), options())


def test_a_missing_device_is_explained(mountpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount, "DEVICE", b"/dev/absent")
    with pytest.raises(Unsupported, match="modprobe fuse"):
        attach(os.fsencode(mountpoint), options())


def test_a_missing_fusermount3_is_explained(mountpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    require("root")
    monkeypatch.setattr(mount, "_mount", refuse)
    monkeypatch.setattr(mount, "FUSERMOUNT", b"fusermount3-absent")
    with pytest.raises(LayerfsError, match="install the package fuse3"):
        attach(os.fsencode(mountpoint), options())


@pytest.mark.parametrize(
    ("conf", "permitted"),
    [
        ("", False),
        ("#user_allow_other\n", False),
        (" user_allow_other \n", True),
        ("mount_max = 3\n", False),
        (None, False),
    ],
)
def test_fuse_conf_permits_others(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, conf: str | None, permitted: bool
) -> None:
    monkeypatch.setattr(mount, "CONF", str(scratch / "fuse.conf"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    if conf is not None:
        (scratch / "fuse.conf").write_text(conf)
    assert others_permitted() is permitted


def test_a_mount_without_checks_is_for_whoever_mounts_alone(mountpoint: Path) -> None:
    require("root", "fuse")
    os.close(attach(os.fsencode(mountpoint), options(b"unchecked,allow_other")))
    assert {b"default_permissions", b"allow_other"}.isdisjoint(mounted(mountpoint).super_options)
