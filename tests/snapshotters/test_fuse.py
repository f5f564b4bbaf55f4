"""The driver fuse: owners that are mapped, and a user without root."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.snapshots.driver import GIDS, UIDS
from tests.contract.subjects import Subject, a_subject
from tests.host import BIN, Person, require

MAPS = {UIDS: "0:100000:65536", GIDS: "0:200000:65536"}


@pytest.fixture
def subject(scratch: Path) -> Iterator[Subject]:
    with a_subject("fuse", scratch) as found:
        yield found


@pytest.mark.parametrize("parent", ["", "base"])
def test_owners_are_mapped_both_ways(subject: Subject, parent: str) -> None:
    subject.layer("base", a="1")
    subject.snapshots.prepare("work", parent, MAPS)
    with subject.at("work") as target:
        assert [(path.stat().st_uid, path.stat().st_gid) for path in (target, *target.iterdir())] == [
            (100000, 200000)
        ] * (2 if parent else 1)
        root = ["setpriv", "--reuid=100000", "--regid=200000", "--clear-groups"]
        subprocess.run([*root, "touch", target / "new"], check=True)
        os.chown(target / "new", 100007, 200008)
    st = Path(os.fsdecode(subject.snapshots.layer("work").path), "new").stat()
    assert (st.st_uid, st.st_gid) == (7, 8)


def test_mount_is_one_that_a_runtime_makes_by_calling_layerfs_mount(subject: Subject) -> None:
    subject.layer("base", a="1")
    (mount,) = subject.snapshots.prepare("work", "base")
    assert (mount.type, mount.source) == ("fuse3.layerfs-mount", "layerfs")
    assert {option.partition("=")[0] for option in mount.options} == {"lowerdir", "upperdir", "workdir"}
    (mount,) = subject.snapshots.view("look", "base")
    assert {option.partition("=")[0] for option in mount.options} == {"lowerdir", "ro"}


def test_user_without_root_makes_mounts_and_commits(person: Person) -> None:
    require("fuse")

    def layerfs(*words: str) -> str:
        return person.run([BIN / "layerfs", *words]).stdout

    (person.home / "at").mkdir()
    person.owns(person.home / "at")
    layerfs("snapshot", "prepare", "--snapshotter", "fuse", "key")
    layerfs("snapshot", "mount", "key", "at")  # auto takes fuse, too
    person.run(["sh", "-c", "echo 1 > at/a; mkdir at/d; echo 2 > at/d/b"])
    layerfs("snapshot", "umount", "at")
    layerfs("snapshot", "commit", "base", "key")
    layerfs("snapshot", "prepare", "key", "base")
    layerfs("snapshot", "mount", "key", "at")
    person.run(["sh", "-c", "rm -r at/d; echo 3 > at/a"])
    layerfs("snapshot", "umount", "at")
    layerfs("snapshot", "commit", "top", "key")
    layerfs("snapshot", "view", "look", "top")
    layerfs("snapshot", "mount", "look", "at")
    assert person.run(["sh", "-c", "cat at/a; ls at"]).stdout == "3\na\n"
    layerfs("snapshot", "umount", "at")
    assert layerfs("snapshot", "diff", "top") == "M /a\nD /d\n"
    assert len(json.loads(layerfs("snapshot", "ls", "--json"))) == 3
    layerfs("snapshot", "rm", "look", "top", "base")
    assert layerfs("store", "check") == "nothing is wrong\n"
