"""`layerfs-mount` as podman's mount_program and mount.fuse3 call it."""

import os
import subprocess
from pathlib import Path

import pytest

from layerfs import __version__
from layerfs.sys.mounts import MountInfo, mountinfo
from tests.cli.conftest import Place
from tests.cli.test_mount import MERGED, look, read
from tests.host import BIN, require
from tests.waiting import PATIENCE, wait_until

HELPER = "layerfs-mount"


def mounted(place: Path) -> MountInfo:
    return next(info for info in mountinfo() if info.target == os.fsencode(place))


def mount_fuse(place: Place, options: str) -> "subprocess.CompletedProcess[str]":
    """Run mount(8), which runs mount.fuse3, which runs the helper (PROGRAM#SOURCE: it need not be on root's PATH)."""
    require("mount.fuse3")
    command = ["mount", "-t", "fuse3", "-o", options, f"{BIN / HELPER}#source", str(place.mnt)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_the_version_is_printed_as_fuse_overlayfs_prints_its_own(place: Place, word: str) -> None:
    assert place.do(word, program=HELPER) == f"layerfs-mount: version {__version__}\n"


def test_podmans_form_mounts_with_its_odd_options_and_symlinks(either: Place) -> None:
    (either.base / "l").mkdir()
    for short, layer in zip("AB", either.layers, strict=True):
        (either.base / "l" / short).symlink_to(layer)
    (either.base / "work").mkdir()
    if either.person is not None:
        os.chown(either.base / "work", either.person.uid, either.person.gid)
    lowers = f"{either.base}/l/A:{either.base}/l/B"
    text = f"lowerdir={lowers},upperdir={either.upper},workdir={either.base}/work,,volatile,"
    either.do("-o", text, either.mnt, program=HELPER)
    assert look(either) == MERGED
    assert either.status()["driver"] == "fuse"
    subprocess.run(["fusermount3", "-u", either.mnt], check=True, timeout=PATIENCE)
    wait_until(lambda: either.status() == {})


def test_lowers_alone_are_mounted_read_only(place: Place) -> None:
    place.do("-o", "lowerdir=top:bottom", "mnt", program=HELPER)
    assert read(place.mnt) == MERGED
    assert place.status()["options"] == "ro"
    with pytest.raises(OSError, match="Read-only file system"):
        (place.mnt / "new").touch()


def test_mount_fuse3s_form_works_in_an_empty_environment(place: Place) -> None:
    text = "rw,lowerdir=top:bottom,upperdir=upper,workdir=work,dev,suid"
    (place.base / "work").mkdir()
    command = [str(BIN / HELPER), "somewhere", str(place.mnt), "-o", text]
    subprocess.run(command, check=True, cwd=place.base, env={}, timeout=PATIENCE)
    assert read(place.mnt) == MERGED
    info = mounted(place.mnt)
    assert (info.type, info.source) == (b"fuse.layerfs", b"somewhere")
    assert {b"allow_other", b"default_permissions"} <= set(info.super_options)
    assert not {b"nodev", b"nosuid"} & set(info.options)


def test_mount_runs_it_as_a_fuse_program(place: Place) -> None:
    (place.base / "work").mkdir()
    stack = f"lowerdir={place.base}/top:{place.base}/bottom,upperdir={place.base}/upper,workdir={place.base}/work"
    done = mount_fuse(place, f"{stack},noatime,nodev,_netdev")
    assert (done.returncode, done.stderr) == (0, "")
    assert read(place.mnt) == MERGED
    assert mounted(place.mnt).source == b"source"
    assert {b"noatime", b"nodev"} <= set(mounted(place.mnt).options)
    subprocess.run(["umount", place.mnt], check=True, timeout=PATIENCE)
    wait_until(lambda: place.status() == {})


def test_mount_reports_a_failure(place: Place) -> None:
    done = mount_fuse(place, "lowerdir=/absent")
    assert done.returncode != 0
    assert "layerfs: layer /absent is not there" in done.stderr


@pytest.mark.parametrize(
    "words",
    [[], ["-o"], ["-o", "lowerdir=top"], ["a", "b", "c", "-o", "lowerdir=top"], ["-q", "mnt"], ["--nonsense", "mnt"]],
)
def test_wrong_usage_shows_the_usage(place: Place, words: list[str]) -> None:
    done = place.run(*words, program=HELPER)
    assert done.returncode == 2
    assert "usage: layerfs-mount" in done.stderr


def test_help_is_printed(place: Place) -> None:
    assert "MOUNTPOINT" in place.do("--help", program=HELPER)


def test_an_unknown_option_is_named(place: Place) -> None:
    done = place.run("-o", "lowerdir=top,plugins=x", "mnt", program=HELPER)
    assert done.returncode == 2
    assert "plugins" in done.stderr


def test_mounts_own_words_are_let_through_and_options_may_come_in_parts(place: Place) -> None:
    place.do("-n", "-s", "-olowerdir=top", "-t", "fuse.layerfs", "-o", "lowerdir+=bottom", "mnt", program=HELPER)
    assert read(place.mnt) == MERGED


def test_the_driver_may_be_chosen_with_an_option(place: Place) -> None:
    require("kernel overlay")
    place.do("-o", "lowerdir=top:bottom,driver=kernel", "mnt", program=HELPER)
    assert mounted(place.mnt).type == b"overlay"
    assert place.status()["driver"] == "kernel"


def test_ids_are_shown_as_the_mapping_says(place: Place) -> None:
    os.chown(place.layers[0] / "top", 5, 6)
    text = "lowerdir=top,uidmapping=:0:1000:10,gidmapping=0:2000:10"
    place.do("-o", text, "mnt", program=HELPER)
    st = (place.mnt / "top").stat()
    assert (st.st_uid, st.st_gid) == (1005, 2006)


@pytest.mark.parametrize("word", ["-f", "-d"])
def test_in_the_foreground_it_lasts_as_long_as_the_mount(place: Place, word: str) -> None:
    command = [str(BIN / HELPER), word, "-o", "lowerdir=top:bottom", "mnt"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=place.base) as server:
        wait_until(lambda: place.status().get("health") == "serving")
        assert read(place.mnt) == MERGED
        subprocess.run(["umount", place.mnt], check=True, timeout=PATIENCE)
        _, said = server.communicate(timeout=PATIENCE)
        assert server.returncode == 0
        assert bool(said) is (word == "-d")


def test_an_upper_in_use_can_be_looked_at_read_only(place: Place) -> None:
    """containerd's differ mounts a running container's snapshot a second time, read-only."""
    (place.base / "work").mkdir()
    (place.base / "second").mkdir()
    text = "lowerdir=top:bottom,upperdir=upper,workdir=work"
    place.do("-o", text, "mnt", program=HELPER)
    (place.mnt / "new").write_text("new")
    place.do("-o", f"{text},ro", "second", program=HELPER)
    assert (place.base / "second/new").read_text() == "new"
    with pytest.raises(OSError, match="Read-only file system"):
        (place.base / "second/more").touch()
