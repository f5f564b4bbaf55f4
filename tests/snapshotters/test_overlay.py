"""The driver overlay: owners, many layers, renamed directories, and a user namespace."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument, Unsupported
from layerfs.snapshots.driver import GIDS, UIDS
from layerfs.sys import idmap
from tests.contract.subjects import Subject, a_subject
from tests.host import BIN, Person, require

MAPS = {UIDS: "0:100000:65536", GIDS: "0:200000:65536"}


@pytest.fixture
def subject(scratch: Path) -> Iterator[Subject]:
    with a_subject("overlay", scratch) as found:
        yield found


def owners(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid


def test_owners_of_layers_are_shifted_and_new_files_have_the_containers(subject: Subject) -> None:
    subject.layer("base", a="1", b="1")
    os.chown(Path(os.fsdecode(subject.snapshots.layer("base").path), "b"), 5, 6)
    subject.layer("top", "base", c="1")
    for key, parent in (("on one", "base"), ("on two", "top")):
        subject.snapshots.prepare(key, parent, MAPS)
        with subject.at(key) as target:
            assert owners(target) == (100000, 200000)
            assert owners(target / "a") == (100000, 200000)
            assert owners(target / "b") == (100005, 200006)
            os.chown(target / "b", 100007, 200007)
            assert owners(target / "b") == (100007, 200007)
        subject.snapshots.view(f"view {key}", parent, MAPS)
        with subject.at(f"view {key}") as target:
            assert owners(target / "b") == (100005, 200006)
    subject.snapshots.prepare("on nothing", labels=MAPS)
    with subject.at("on nothing") as target:
        assert owners(target) == (100000, 200000)


def test_owners_that_cannot_be_shifted_are_refused(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    subject.layer("base", a="1")
    with pytest.raises(InvalidArgument):
        subject.snapshots.prepare("half", "base", {UIDS: "0:100000:65536"})

    def refuse(path: bytes, namespace: int) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr("snapshotters.overlay.mapped_tree", refuse)
    with pytest.raises(Unsupported, match="idmapped mounts"):
        subject.snapshots.prepare("work", "base", MAPS)
    assert [info.name for info in subject.snapshots.walk()] == ["base"]
    assert idmap.mapped_tree is not refuse


def test_three_hundred_layers_are_one_mount(subject: Subject) -> None:
    parent = ""
    for number in range(300):
        subject.snapshots.prepare("key", parent)
        Path(os.fsdecode(subject.snapshots.layer("key").path), f"{number}").write_text(f"{number}")
        subject.snapshots.commit(f"layer {number}", "key", volatile=True)
        parent = f"layer {number}"
    (mount,) = subject.snapshots.prepare("work", parent)
    (lowers,) = [option for option in mount.options if option.startswith("lowerdir=")]
    assert lowers.count(":") == 299
    with subject.at("work") as target:
        assert len(os.listdir(target)) == 300
        (target / "0").unlink()
        (target / "299").write_text("new")
        assert len(os.listdir(target)) == 299


def test_directory_of_a_lower_layer_can_be_renamed(subject: Subject) -> None:
    subject.snapshots.prepare("key")
    with subject.at("key") as target:
        (target / "dir/sub").mkdir(parents=True)
        (target / "dir/sub/file").write_text("1")
    subject.snapshots.commit("base", "key")
    subject.snapshots.prepare("work", "base")
    with subject.at("work") as target:
        os.rename(target / "dir", target / "other")
    subject.snapshots.commit("top", "work")
    for key in ("first", "second"):
        subject.snapshots.prepare(key, "top")
        with subject.at(key) as target:
            assert os.listdir(target) == ["other"]
            assert (target / "other/sub/file").read_text() == "1"


SCRIPT = """
import json, os, sys
from layerfs.snapshots.library import open_store
with open_store(sys.argv[1]) as store:
    snapshots = store.snapshotter("overlay")
    target = os.fsencode(sys.argv[1]) + b"-at"
    os.mkdir(target)
    def work(key, parent, act):
        (mount,) = snapshots.prepare(key, parent)
        mount.perform(target)
        act(os.fsdecode(target))
        os.system("umount " + os.fsdecode(target))
        snapshots.commit(key + "-done", key)
    def make(at):
        for name in ("gone", "kept", "opaque"):
            os.mkdir(at + "/" + name)
            open(at + "/" + name + "/file", "w").close()
        os.chown(at + "/kept/file", 7, 7)
    def change(at):
        os.unlink(at + "/gone/file"); os.rmdir(at + "/gone")
        os.unlink(at + "/opaque/file"); os.rmdir(at + "/opaque"); os.mkdir(at + "/opaque")
    work("a", "", make)
    work("b", "a-done", change)
    (mount,) = snapshots.view("look", "b-done")
    mount.perform(target)
    at = os.fsdecode(target)
    found = {base[len(at):]: sorted(files) for base, _, files in os.walk(at)}
    print(json.dumps([found, os.stat(at + "/kept/file").st_uid, mount.options]))
"""


def test_user_namespace_has_its_own_marks(person: Person) -> None:
    require("userns overlay", "subids")
    command = ["unshare", "--user", "--map-auto", "--map-root-user", "--mount", sys.executable, "-c", SCRIPT]
    done = person.run([*command, str(person.home / "store")])
    found, uid, options = json.loads(done.stdout)
    assert found == {"": [], "/kept": ["file"], "/opaque": []}
    assert uid == 7
    assert "userxattr" in options


def test_user_without_a_namespace_is_told_what_to_do(person: Person) -> None:
    done = person.run([BIN / "layerfs", "snapshot", "ls", "--snapshotter", "overlay"], check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("layerfs: this user may not mount kernel overlayfs (hint: ")
    assert subprocess.run(["test", "-d", person.home / ".local/share/layerfs"], check=False).returncode == 0
