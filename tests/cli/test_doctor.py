"""`layerfs doctor` on this host, and on one that can do nothing."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from layerfs.cli.doctor import judge
from layerfs.snapshots import registry
from layerfs.sys.mountprobe import MOUNT_PROBES
from layerfs.sys.probe import PROBES, Area, Feature
from tests.conftest import mounts_below
from tests.host import BIN, Person, require
from tests.waiting import PATIENCE

COMMAND = [str(BIN / "layerfs"), "doctor"]


def run(*words: str | Path, before: list[str] | None = None) -> "subprocess.CompletedProcess[str]":
    command = [*(before or []), *COMMAND, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)


def features(said: str) -> dict[str, dict[str, Any]]:
    return {f"{row['area']}: {row['feature']}": row for row in json.loads(said)["features"]}


def test_root_is_told_of_every_feature_and_nothing_is_left(scratch: Path) -> None:
    require("root", "fuse", "kernel overlay")
    done = run("--json", "--dir", scratch)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["can"] == {"kernel": True, "fuse": True, "run": True}
    found = features(done.stdout)
    assert len(found) == len(PROBES) + len(MOUNT_PROBES) + 1 + len(registry.names())
    assert found["kernel overlayfs: as root"]["present"]
    assert all(row["detail"] and (row["present"] or row["remedy"] or row["instead"]) for row in found.values())
    assert (os.listdir(scratch), mounts_below(scratch)) == ([], [])


def test_person_is_told_what_they_can_do(person: Person) -> None:
    require("fuse", "userns overlay", "subids")
    done = person.run([*COMMAND, "--json"])
    assert json.loads(done.stdout)["can"] == {"kernel": False, "fuse": True, "run": True}
    found = features(done.stdout)
    assert found["kernel overlayfs: as root"]["detail"] == "not root"
    assert found["kernel overlayfs: in a user namespace"]["present"]
    assert found["user namespaces: ranges of ids"]["present"]
    assert not found["directory: trusted.* xattrs"]["present"]
    assert found["kernel overlayfs: 300 layers"]["present"]


def test_table_says_yes_or_no_and_what_to_do(person: Person) -> None:
    require("fuse")
    lines = person.run([*COMMAND, "--dir", person.home]).stdout.splitlines()
    assert lines[0] == "FUSE"
    assert f"directory {person.home}" in lines
    (device,) = [line for line in lines if line.startswith("  /dev/fuse")]
    assert device.split() == ["/dev/fuse", "yes"]
    (trusted,) = [line for line in lines if line.startswith("  trusted.* xattrs")]
    assert "not needed" in trusted
    assert "without root user.* ones serve" in trusted
    assert "`layerfs mount` can use FUSE here." in lines


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_step_is_a_line_of_its_own_at_any_width(person: Person, width: int) -> None:
    command = f"stty cols {width}; {COMMAND[0]} doctor --dir {person.home}"
    said = person.run(["script", "-qec", command, "/dev/null"]).stdout
    steps = [line.strip() for line in said.splitlines() if line.strip().startswith("as root: ")]
    assert "as root: echo user_allow_other >> /etc/fuse.conf" in steps
    assert all(line.isprintable() for line in said.splitlines())


def test_a_device_that_is_none_is_found_out(person: Person) -> None:
    require("root")
    script = 'mount --bind /dev/null /dev/fuse && exec "$@"'
    done = run("--json", "--dir", person.home, before=["unshare", "--mount", "sh", "-c", script, "sh"])
    device = features(done.stdout)["FUSE: /dev/fuse"]
    assert (device["state"], device["detail"]) == ("no", "/dev/fuse is not the FUSE device")
    mounted = features(done.stdout)["FUSE: FUSE mounts"]
    assert mounted["detail"] == "/dev/fuse is not the FUSE device"
    assert mounted["remedy"] == device["remedy"]


def test_host_without_fuse_and_without_root_is_told_so(person: Person) -> None:
    require("root", "userns overlay")
    hide = 'mount --bind /dev/null /dev/fuse && exec "$@"'
    command = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        hide,
        "sh",
        *person.command([*COMMAND, "--json", "--dir", person.home]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=person.home)
    assert done.returncode == 1
    assert json.loads(done.stdout)["can"] == {"kernel": False, "fuse": False, "run": True}
    fuse = features(done.stdout)["FUSE: FUSE mounts"]
    assert not fuse["present"]
    assert fuse["remedy"]


def test_missing_device_has_its_remedy(person: Person) -> None:
    require("root")
    hide = 'mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && exec "$@"'
    command = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        hide,
        "sh",
        *person.command([*COMMAND, "--json", "--dir", person.home]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=person.home)
    device = features(done.stdout)["FUSE: /dev/fuse"]
    assert (device["present"], device["detail"]) == (False, "there is no /dev/fuse")
    assert device["remedy"] == "as root: modprobe fuse; in a container: --device /dev/fuse"


def test_filesystem_that_keeps_less_is_judged_by_what_it_does(scratch: Path) -> None:
    require("root")
    (scratch / "memory").mkdir()
    subprocess.run(["mount", "-t", "ramfs", "ramfs", scratch / "memory"], check=True)
    found = features(run("--json", "--dir", scratch / "memory").stdout)
    assert not found["directory: user.* xattrs"]["present"]
    assert found["directory: user.* xattrs"]["remedy"] == "put uppers on another filesystem (ext4, xfs, btrfs)"
    assert not found["directory: reflink"]["present"]


@pytest.mark.parametrize(("name", "words"), [("nowhere", "there is no directory"), ("file", "there is no directory")])
def test_directory_that_is_none_is_refused(scratch: Path, name: str, words: str) -> None:
    (scratch / "file").touch()
    done = run("--dir", scratch / name)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"layerfs: {words}")


def test_directory_that_cannot_be_written_is_refused_only_when_asked_for(person: Person) -> None:
    done = person.run([*COMMAND, "--dir", "/"], check=False)
    assert (done.returncode, done.stderr.count("you cannot write to /")) == (1, 1)
    assert person.run([*COMMAND], cwd="/", env={"TMPDIR": str(person.home)}).returncode == 0


def test_verdict_needs_a_mount_that_was_tried() -> None:
    def feature(area: Area, name: str, present: bool) -> Feature:
        return Feature(area, name, present, "")

    nothing = [feature(Area.FUSE, "/dev/fuse", True), feature(Area.KERNEL, "300 layers", True)]
    assert judge(nothing) == {"kernel": False, "fuse": False, "run": False}
    assert judge([feature(Area.KERNEL, "in a user namespace", True)])["run"]
    assert judge([feature(Area.KERNEL, "as root", True)]) == {"kernel": True, "fuse": False, "run": True}
    assert judge([feature(Area.FUSE, "FUSE mounts", True)])["fuse"]


def test_drivers_of_snapshots_are_tried(scratch: Path) -> None:
    require("root", "kernel overlay", "fuse")
    done = subprocess.run([BIN / "layerfs", "doctor", "--json", "--dir", scratch], capture_output=True, check=True)
    rows = [row for row in json.loads(done.stdout)["features"] if row["area"] == "snapshotters"]
    assert {row["feature"]: row["present"] for row in rows} == {
        "overlay": True,
        "fuse": True,
        "btrfs": False,
        "xar": True,
    }
    (btrfs,) = [row for row in rows if row["feature"] == "btrfs"]
    assert btrfs["detail"] == "this directory is not on btrfs"
    assert btrfs["remedy"]
