"""What the contract of a driver offers to its authors; drivers themselves are tested in tests/contract."""

import os
from pathlib import Path

from layerfs.snapshots.driver import Form, LayerPlace, Snapshot, usage_of
from layerfs.store.info import SnapshotKind


def test_a_file_of_several_names_counts_once(scratch: Path) -> None:
    (scratch / "d").mkdir()
    (scratch / "d/one").write_bytes(b"x" * 10_000)
    alone = usage_of(os.fsencode(scratch))
    os.link(scratch / "d/one", scratch / "d/two")
    assert usage_of(os.fsencode(scratch)) == alone
    assert alone.inodes == 3 and alone.size >= 10_000


def test_a_snapshot_without_parents_and_labels_is_the_default() -> None:
    snapshot = Snapshot(1, SnapshotKind.ACTIVE, b"/place")
    assert (snapshot.parents, dict(snapshot.labels)) == ((), {})
    assert LayerPlace(b"/place/fs", Form.CHANGES).image is None
