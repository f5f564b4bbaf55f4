"""The driver xar: what is packed, when the directory goes, and that kills and odd layers lose nothing."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.errors import NotReady
from layerfs.sys.mounts import mountinfo
from snapshotters import xar
from tests.contract.subjects import Subject, a_subject, is_packing
from tests.crash.steps import killed_at
from tests.host import BIN
from tests.waiting import wait_until


@pytest.fixture
def subject(scratch: Path) -> Iterator[Subject]:
    with a_subject("xar", scratch) as found:
        yield found


def packed(subject: Subject, *names: str) -> list[Path]:
    """The images of committed snapshots, once they are there."""
    paths = [Path(os.fsdecode(subject.snapshots.layer(name).image or b"")) for name in names]
    wait_until(lambda: all(path.exists() for path in paths))
    return paths


def held(subject: Subject, name: str) -> list[str]:
    directory = Path(os.fsdecode(subject.snapshots.layer(name).path)).parent
    return sorted(path.name for path in directory.iterdir())


def test_committed_snapshot_becomes_a_xar_like_all_others(subject: Subject) -> None:
    subject.layer("base", a="1", b="1")
    subject.layer("top", "base", a=None, c="2")
    for path in packed(subject, "base", "top"):
        assert subprocess.run([BIN / "layerfs", "xar", "verify", path], check=False).returncode == 0
        assert path.read_bytes().startswith(b"#!/usr/bin/env xarexec_fuse\n")
    wait_until(lambda: held(subject, "base") == ["empty", "layer.xar"])
    wait_until(lambda: held(subject, "top") == ["layer.xar"])
    assert subject.view("top") == {"b": "1", "c": "2"}
    assert list((subject.root / "drivers/xar/queue").iterdir()) == []


def test_root_mounts_a_chain_by_the_kernel_and_can_write(subject: Subject) -> None:
    subject.layer("base", a="1", b="1")
    subject.layer("top", "base", a=None)
    packed(subject, "base", "top")
    subject.snapshots.prepare("work", "top")
    with subject.at("work") as target:
        kinds = [entry.type for entry in mountinfo() if entry.target == os.fsencode(target)]
        assert kinds == [b"overlay"]
        assert os.listxattr(target) == os.listxattr(target / "b") == []  # and not "operation not supported"
        (target / "b").write_text("2")
        (target / "a").write_text("again")
    subject.snapshots.commit("third", "work")
    packed(subject, "third")
    assert subject.view("third") == {"a": "again", "b": "2"}


def test_directory_serves_as_long_as_a_snapshot_was_given_it(subject: Subject) -> None:
    subject.snapshots.prepare("key")
    with subject.at("key") as target:
        (target / "a").write_text("1")
    driver = subject.snapshots.driver
    assert isinstance(driver, xar.XarDriver)
    subject.snapshots.commit("base", "key")
    place = subject.snapshots.places.place(1)
    wait_until(lambda: not is_packing(subject.root))
    image = packed(subject, "base")[0]
    image.rename(image.with_suffix(".aside"))  # as if it were not packed yet
    Path(os.fsdecode(place), "fs").mkdir(exist_ok=True)
    Path(os.fsdecode(place), "fs/a").write_text("1")
    subject.snapshots.prepare("work", "base")
    with subject.at("work") as target:
        image.with_suffix(".aside").rename(image)
        driver._background.add(place)
        wait_until(lambda: not is_packing(subject.root))
        assert "fs" in held(subject, "base")
        assert (target / "a").read_text() == "1"
    subject.snapshots.remove("work")
    subject.snapshots.cleanup()
    wait_until(lambda: "fs" not in held(subject, "base"))


def test_layer_that_an_image_cannot_hold_stays_a_directory(subject: Subject) -> None:
    subject.snapshots.prepare("key")
    with subject.at("key") as target:
        (target / "a").write_text("1")
        subprocess.run(["setfacl", "-m", "u:1:r", target / "a"], check=True)
    subject.snapshots.commit("base", "key")
    wait_until(lambda: (subject.root / "drivers/xar/failed").is_dir())
    wait_until(lambda: not is_packing(subject.root))
    said = (subject.root / "drivers/xar/failed/1").read_text()
    assert "cannot hold the attribute system.posix_acl_access of a" in said
    assert held(subject, "base") == ["empty", "fs"]
    assert subject.view("base") == {"a": "1"}


@pytest.mark.parametrize("time", [-1, 2**32])
def test_layer_with_a_time_that_squashfs_has_not_stays_a_directory(subject: Subject, time: int) -> None:
    """It was packed, and the file had another time from then on."""
    subject.snapshots.prepare("key")
    with subject.at("key") as target:
        (target / "a").write_text("1")
        os.utime(target / "a", (time, time))
    subject.snapshots.commit("base", "key")
    wait_until(lambda: (subject.root / "drivers/xar/failed/1").exists())
    wait_until(lambda: not is_packing(subject.root))
    assert "cannot hold the time before 1970 or after 2106 of a" in (subject.root / "drivers/xar/failed/1").read_text()
    assert held(subject, "base") == ["empty", "fs"]


def test_times_of_a_layer_are_its_own_whatever_builds_ask_for(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SOURCE_DATE_EPOCH in the environment of whoever commits made all files older."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "7")
    subject.layer("base", a="1")
    packed(subject, "base")
    wait_until(lambda: "fs" not in held(subject, "base"))
    subject.snapshots.view("look", "base")
    with subject.at("look") as target:
        assert (target / "a").stat().st_mtime > 7


def test_image_put_into_an_active_snapshot_is_its_layer(subject: Subject) -> None:
    subject.layer("base", a="1")
    image = packed(subject, "base")[0]
    subject.snapshots.prepare("key")
    place = subject.snapshots.layer("key")
    assert place.image is not None
    os.link(image, place.image)
    assert "ro" in subject.snapshots.mounts("key")[-1].options
    with subject.at("key") as target:
        assert (target / "a").read_text() == "1"
    subject.snapshots.commit("other", "key")
    assert subject.view("other") == {"a": "1"}
    wait_until(lambda: "fs" not in held(subject, "other"))


def test_packing_that_was_killed_at_any_step_is_done_by_the_next(subject: Subject) -> None:
    subject.snapshots.prepare("key")
    with subject.at("key") as target:
        (target / "a").write_text("1" * 100_000)
    for step in range(200):
        directory = os.fsencode(subject.place / f"try{step}")
        subprocess.run(["cp", "-a", subject.snapshots.places.place(1), directory], check=True)
        was_killed = killed_at(step, lambda directory=directory: xar.pack(directory))
        xar.pack(directory)
        assert sorted(os.listdir(directory)) == [b"empty", b"fs", b"layer.xar", b"work"]
        if not was_killed:
            break
    assert 3 < step < 199


def test_worker_that_was_killed_at_any_step_is_followed_by_another(subject: Subject) -> None:
    root = os.fsencode(subject.root / "drivers/xar")
    for step in range(200):
        name = f"key{step}"
        subject.snapshots.prepare(name)
        place = subject.snapshots.places.place(step + 1)
        Path(os.fsdecode(place), "fs/a").write_text("1")
        os.makedirs(root + b"/queue", exist_ok=True)
        os.symlink(os.path.relpath(place, root), root + b"/queue/%d" % (step + 1))
        was_killed = killed_at(step, lambda: xar.main(root))
        xar.main(root)
        assert os.listdir(root + b"/queue") == os.listdir(root + b"/done") == []
        assert sorted(os.listdir(place)) == [b"empty", b"layer.xar", b"work"]
        if not was_killed:
            break
    assert 5 < step < 199


def test_a_layer_that_changes_while_it_is_packed_is_not_taken(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The packer goes on with what changes, as a builder should; a snapshot must be what was committed."""
    subject.snapshots.prepare("key")
    with subject.at("key") as target:
        (target / "a").write_text("1")
    monkeypatch.setattr("layerfs.pysquashfs.content._facts", lambda status: object())
    directory = subject.snapshots.places.place(1)
    with pytest.raises(NotReady, match="/a changed while it was read"):
        xar.pack(directory)
    assert b"layer.xar" not in os.listdir(directory)
