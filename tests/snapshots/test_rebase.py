"""Layers that are unpacked alone."""

from layerfs.model import Mount
from layerfs.snapshots.driver import PARENT_CHAIN, Snapshot, SnapshotKind
from layerfs.snapshots.rebase import is_alone, upper_only


def test_only_an_active_snapshot_with_the_label_and_no_parent_is_alone() -> None:
    labels = {PARENT_CHAIN: "sha256:x"}
    assert is_alone(Snapshot(1, SnapshotKind.ACTIVE, b"/d", (), labels))
    assert not is_alone(Snapshot(1, SnapshotKind.ACTIVE, b"/d"))
    assert not is_alone(Snapshot(1, SnapshotKind.VIEW, b"/d", (), labels))
    assert not is_alone(Snapshot(1, SnapshotKind.ACTIVE, b"/d", (b"/p",), labels))


def test_mount_names_upper_and_work_only() -> None:
    assert upper_only(b"/a,b", b"/w") == Mount("overlay", "overlay", ("workdir=/w", "upperdir=/a\\,b"))
