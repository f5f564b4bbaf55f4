"""What is counted, and when; over every driver it is in tests/contract."""

from pathlib import Path

import pytest

import layerfs
from layerfs.errors import NotFound
from layerfs.snapshots.counting import count_all, usage
from layerfs.store import rows
from layerfs.store.info import UNCOUNTED
from tests.host import require


def test_volatile_commit_is_counted_later_and_once(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("kernel overlay")
    with layerfs.open_store(scratch) as store:
        snapshots = store.snapshotter("overlay")
        for name in ("one", "two"):
            snapshots.prepare("key")
            snapshots.commit(name, "key", volatile=name == "two")
        with store.ledger.read() as db:
            assert rows.uncounted(db, "overlay") == ["two"]
            assert rows.total(db, "overlay")[1].size >= 0
        count_all(snapshots)
        monkeypatch.setattr(snapshots.driver, "usage", lambda snapshot: UNCOUNTED)
        assert usage(snapshots, "two") == usage(snapshots, "one") != UNCOUNTED
        with pytest.raises(NotFound):
            usage(snapshots, "three")
