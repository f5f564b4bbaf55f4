"""The lifecycle of snapshots, the same over every driver."""

import os
import subprocess
import time
from collections.abc import Callable

import pytest

from layerfs.errors import AlreadyExists, InvalidArgument, LayerfsError, NotFound, NotReady
from layerfs.snapshots.driver import Info, SnapshotKind
from layerfs.snapshots.maintenance import tally
from layerfs.snapshots.snapshotter import Snapshotter
from layerfs.store import rows
from layerfs.value import replace
from tests.contract.subjects import Subject, is_packing
from tests.host import require
from tests.waiting import wait_until

ODD_KEYS = ("default/1/extract-333-x sha256:ab/..", "../../etc/passwd", "a b\tc\nd", "ü" * 300, "-", ".", "..", "a\0b")


def test_chain_shows_each_layer_on_the_one_below(subject: Subject) -> None:
    subject.layer("base", a="1", b="1")
    subject.layer("middle", "base", b="2", c="2")
    subject.layer("top", "middle", a=None, d="3")
    assert subject.view("base") == {"a": "1", "b": "1"}
    assert subject.view("middle") == {"a": "1", "b": "2", "c": "2"}
    assert subject.view("top") == {"b": "2", "c": "2", "d": "3"}


def test_siblings_do_not_see_each_other(subject: Subject) -> None:
    subject.layer("base", a="1")
    subject.layer("one", "base", a="one")
    subject.layer("other", "base", a=None)
    assert (subject.view("one"), subject.view("other"), subject.view("base")) == ({"a": "one"}, {}, {"a": "1"})


def test_active_snapshot_keeps_what_is_written_between_two_mounts(subject: Subject) -> None:
    subject.snapshots.prepare("work")
    with subject.at("work") as target:
        (target / "a").write_text("1")
    with subject.at("work") as target:
        assert (target / "a").read_text() == "1"


def test_view_cannot_be_written_to(subject: Subject) -> None:
    subject.layer("base", a="1")
    subject.layer("top", "base", b="2")
    for parent in ("", "base", "top"):
        key = f"view of {parent}"
        subject.snapshots.view(key, parent)
        with subject.at(key) as target, pytest.raises(OSError, match="Read-only"):
            (target / "new").write_text("x")


def test_stat_tells_kind_parent_labels_and_times(subject: Subject) -> None:
    before = time.time_ns()
    subject.snapshots.prepare("base-key", labels={"a.b/c": "1", "empty": ""})
    active = subject.snapshots.stat("base-key")
    assert active == Info("base-key", SnapshotKind.ACTIVE, "", {"a.b/c": "1"}, active.created, active.created)
    assert before <= active.created <= time.time_ns()
    subject.snapshots.commit("base", "base-key", {"other": "2"})
    committed = subject.snapshots.stat("base")
    assert committed == Info("base", SnapshotKind.COMMITTED, "", {"other": "2"}, committed.created, committed.created)
    assert committed.created > active.created
    subject.snapshots.view("look", "base")
    assert subject.snapshots.stat("look").kind is SnapshotKind.VIEW
    assert subject.snapshots.stat("look").parent == "base"


def test_key_of_a_committed_snapshot_is_free_again(subject: Subject) -> None:
    subject.snapshots.prepare("key")
    subject.snapshots.commit("name", "key")
    subject.snapshots.prepare("key", "name")
    assert [(info.name, info.parent) for info in subject.snapshots.walk()] == [("key", "name"), ("name", "")]


def test_keys_are_opaque(subject: Subject) -> None:
    for key in ODD_KEYS:
        subject.snapshots.prepare(key)
        assert subject.snapshots.stat(key).name == key
        subject.snapshots.commit(f"name of {key}", key)
    assert {info.name for info in subject.snapshots.walk()} == {f"name of {key}" for key in ODD_KEYS}
    assert {name.decode() for name in os.listdir(os.fsencode(subject.root))} <= {
        "content", "drivers", "ledger.db", "ledger.db-shm", "ledger.db-wal", "ledger.lock", "ledger.spare",
    }  # fmt: skip


def test_update_changes_labels_and_its_time_only(subject: Subject) -> None:
    snapshots = subject.snapshots
    snapshots.prepare("key", labels={"a": "1", "b": "2"})
    info = snapshots.stat("key")
    changed = snapshots.update(replace(info, labels={"a": "3", "c": "4"}), "labels.a", "labels.b")
    assert changed == replace(info, labels={"a": "3"}, updated=changed.updated)
    assert changed.updated > info.updated
    assert snapshots.stat("key") == changed
    assert snapshots.update(replace(info, labels={"x": "1", "y": ""})).labels == {"x": "1"}
    assert snapshots.update(replace(info, labels={"z": "1"}), "labels").labels == {"z": "1"}
    for field in ("name", "parent", "kind", "created", "size"):
        with pytest.raises(InvalidArgument):
            snapshots.update(info, field)
    with pytest.raises(NotFound):
        snapshots.update(replace(info, name="absent"))


Act = Callable[[Snapshotter], object]
WRONG: dict[str, tuple[type[LayerfsError], Act]] = {
    "prepare a key that is taken": (AlreadyExists, lambda s: s.prepare("active")),
    "prepare the name of a committed one": (AlreadyExists, lambda s: s.prepare("base", "base")),
    "view a key that is taken": (AlreadyExists, lambda s: s.view("active", "base")),
    "prepare on nothing": (NotFound, lambda s: s.prepare("new", "absent")),
    "prepare a taken key on nothing": (NotFound, lambda s: s.prepare("active", "absent")),
    "prepare on an active one": (InvalidArgument, lambda s: s.prepare("new", "active")),
    "view of a view": (InvalidArgument, lambda s: s.view("new", "view")),
    "prepare no key": (InvalidArgument, lambda s: s.prepare("")),
    "prepare a key that is no text": (InvalidArgument, lambda s: s.prepare("\udc80")),
    "prepare an endless key": (InvalidArgument, lambda s: s.prepare("k" * 32769)),
    "prepare with a large label": (InvalidArgument, lambda s: s.prepare("new", labels={"a": "b" * 4096})),
    "mounts of a committed one": (NotReady, lambda s: s.mounts("base")),
    "mounts of nothing": (NotFound, lambda s: s.mounts("absent")),
    "commit nothing": (NotFound, lambda s: s.commit("new", "absent")),
    "commit to a taken name": (AlreadyExists, lambda s: s.commit("base", "active")),
    "commit to its own key": (AlreadyExists, lambda s: s.commit("active", "active")),
    "commit a view": (NotReady, lambda s: s.commit("new", "view")),
    "commit a committed one": (NotReady, lambda s: s.commit("new", "base")),
    "commit without a name": (InvalidArgument, lambda s: s.commit("", "active")),
    "rebase one that has a parent": (InvalidArgument, lambda s: s.commit("new", "child", parent="other")),
    "remove what has children": (NotReady, lambda s: s.remove("base")),
    "remove nothing": (NotFound, lambda s: s.remove("absent")),
    "stat nothing": (NotFound, lambda s: s.stat("absent")),
    "usage of nothing": (NotFound, lambda s: s.usage("absent")),
    "walk with a bad filter": (InvalidArgument, lambda s: s.walk("name=x")),
}


def test_what_is_wrong_is_refused_and_changes_nothing(subject: Subject) -> None:
    snapshots = subject.snapshots
    subject.layer("base", a="1")
    subject.layer("other", b="1")
    snapshots.prepare("active")
    snapshots.prepare("child", "base")
    snapshots.view("view", "base")
    before = list(snapshots.walk())
    for what, (error, act) in WRONG.items():
        with pytest.raises(error) as raised:
            act(snapshots)
        assert type(raised.value) is error, what
        assert list(snapshots.walk()) == before, what
    snapshots.cleanup()
    there = sorted(os.listdir(subject.root / "drivers" / subject.name / "snapshots"))
    assert len(there) == len(before)


def test_removed_snapshot_gives_its_space_back_in_cleanup(subject: Subject) -> None:
    subject.layer("base", a="1")
    subject.snapshots.prepare("work", "base")
    subject.snapshots.remove("work")
    subject.snapshots.remove("base")
    trash = subject.root / "drivers" / subject.name / "trash"
    assert len(list(trash.iterdir())) == 2
    assert subject.snapshots.cleanup() == 2
    assert list(trash.iterdir()) == []
    assert subject.snapshots.cleanup() == 0


def test_cleanup_removes_a_strangers_tree_however_it_is_made(subject: Subject) -> None:
    subject.snapshots.prepare("work")
    outside = subject.place / "outside"
    outside.write_text("kept")
    with subject.at("work") as target:
        (target / "link").symlink_to(outside)
        (target / "to root").symlink_to("/")
        os.mkfifo(target / "fifo")
        (target / "closed").mkdir()
        (target / "closed/file").write_text("x")
        (target / "closed").chmod(0)
        here = os.open(target, os.O_PATH)
        for _ in range(1500):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_PATH | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)
    assert subject.snapshots.usage("work").inodes == 1506
    subject.snapshots.commit("base", "work")
    subject.snapshots.remove("base")
    assert subject.snapshots.cleanup() == 1
    assert outside.read_text() == "kept"


def test_cleanup_removes_what_a_container_made_immutable(subject: Subject) -> None:
    """One such file kept cleanup from giving back anything."""
    require("chattr")
    for key in ("one", "two", "three"):
        subject.snapshots.prepare(key)
        with subject.at(key) as target:
            (target / "directory").mkdir()
            (target / "directory/file").write_text("x")
    for key, flag in (("one", "+i"), ("two", "+a")):
        with subject.at(key) as target:
            subprocess.run(["chattr", flag, target / "directory", target / "directory/file"], check=False)
    for key in ("one", "two", "three"):
        subject.snapshots.remove(key)
    assert subject.snapshots.cleanup() == 3


def test_what_cannot_be_removed_keeps_cleanup_from_nothing_else(subject: Subject) -> None:
    for key in ("one", "two", "three"):
        subject.snapshots.prepare(key)
        subject.snapshots.remove(key)
    trash = subject.root / "drivers" / subject.name / "trash"
    stuck = trash / "2/mounted"
    stuck.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", stuck], check=True)
    try:
        with pytest.raises(OSError, match="busy"):
            subject.snapshots.cleanup()
    finally:
        subprocess.run(["umount", stuck], check=True)
    assert [path.name for path in trash.iterdir()] == ["2"]
    assert subject.snapshots.cleanup() == 1


def test_usage_grows_with_the_content_and_is_kept_at_commit(subject: Subject) -> None:
    subject.layer("base", a="1")
    subject.snapshots.prepare("work", "base")
    empty = subject.snapshots.usage("work")
    with subject.at("work") as target:
        (target / "big").write_bytes(b"x" * (1 << 20))
        os.link(target / "big", target / "again")
    os.sync()
    full = subject.snapshots.usage("work")
    assert full.size - empty.size >= 1 << 20
    assert full.size - empty.size < 2 << 20, "a hard link counts once"
    subject.snapshots.commit("top", "work")
    assert subject.snapshots.usage("top").size >= 1 << 20


def test_what_a_volatile_commit_takes_is_counted_when_it_is_asked_for(subject: Subject) -> None:
    """On btrfs it was 0 for good: nothing had reached the disk."""
    subject.layer("base", a="1")
    subject.snapshots.prepare("work", "base")
    with subject.at("work") as target:
        (target / "big").write_bytes(os.urandom(300 << 10))
    subject.snapshots.commit("x/top", "work", volatile=True)
    assert subject.snapshots.adopt("shared", "top", "base")
    wait_until(lambda: not is_packing(subject.root))
    found = subject.snapshots.usage("shared")
    assert found.size >= 300 << 10
    subject.reopen()
    assert subject.snapshots.usage("x/top") == subject.snapshots.usage("shared") == found
    subject.snapshots.prepare("work", "base")
    subject.snapshots.commit("empty", "work", volatile=True)
    tally(subject.store)
    with subject.store.ledger.read() as db:
        assert rows.uncounted(db, subject.name) == []


def test_adopted_snapshot_shares_the_content_until_the_last_is_removed(subject: Subject) -> None:
    snapshots = subject.snapshots
    subject.layer("a/1/sha256:base", a="1")
    snapshots.prepare("top-key", "a/1/sha256:base")
    snapshots.commit("a/2/top", "top-key", {"containerd.io/snapshot.ref": "sha256:top"})
    assert not snapshots.adopt("b/1/x", "sha256:other")
    assert not snapshots.adopt("b/1/x", "sha256:top"), "its parent is another"
    assert snapshots.adopt("b/1/base", "sha256:base", labels={"x": "y"})
    assert snapshots.adopt("b/2/top", "sha256:top", "b/1/base")
    adopted = snapshots.stat("b/2/top")
    assert (adopted.kind, adopted.parent, adopted.labels) == (SnapshotKind.COMMITTED, "b/1/base", {})
    assert snapshots.usage("b/1/base") == snapshots.usage("a/1/sha256:base")
    for name in ("a/2/top", "a/1/sha256:base"):
        snapshots.remove(name)
    assert snapshots.cleanup() == 0
    assert subject.view("b/2/top") == {"a": "1"}
    for name in ("b/2/top", "b/1/base"):
        snapshots.remove(name)
    assert snapshots.cleanup() == 3
    with pytest.raises(AlreadyExists):
        snapshots.prepare("work")
        snapshots.adopt("work", "sha256:base")


def test_store_opened_again_knows_the_same(subject: Subject) -> None:
    subject.layer("base", a="1")
    subject.snapshots.prepare("work", "base", {"x": "y"})
    before = list(subject.snapshots.walk())
    subject.reopen()
    assert list(subject.snapshots.walk()) == before
    with subject.at("work") as target:
        assert (target / "a").read_text() == "1"
