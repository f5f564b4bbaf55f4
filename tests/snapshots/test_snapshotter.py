"""The lifecycle, where no mount is needed; with every driver and its mounts it is in tests/contract."""

from pathlib import Path

import pytest

import layerfs
from layerfs.errors import AlreadyExists, NotFound, NotReady
from layerfs.store.info import SnapshotKind
from tests.host import require


def test_a_snapshot_is_active_then_committed_then_gone(scratch: Path) -> None:
    require("kernel overlay")
    with layerfs.open_store(scratch) as store:
        snapshots = store.snapshotter("overlay")
        snapshots.prepare("key")
        with pytest.raises(AlreadyExists):
            snapshots.prepare("key")
        snapshots.commit("base", "key")
        snapshots.prepare("child", "base")
        kinds = {info.name: (info.kind, info.parent) for info in snapshots.walk()}
        assert kinds == {"base": (SnapshotKind.COMMITTED, ""), "child": (SnapshotKind.ACTIVE, "base")}
        with pytest.raises(NotReady):
            snapshots.remove("base")
        snapshots.remove("child")
        snapshots.remove("base")
        with pytest.raises(NotFound):
            snapshots.stat("base")
        assert list(snapshots.walk()) == []
