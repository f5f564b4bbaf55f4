"""The label max-size."""

from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument
from layerfs.snapshots.driver import Snapshot, SnapshotKind
from layerfs.snapshots.quotas import MAX_SIZE, size_of
from tests.contract.subjects import a_subject


def test_it_is_a_number_of_bytes_for_active_snapshots() -> None:
    assert size_of(Snapshot(1, SnapshotKind.ACTIVE, b"", (), {MAX_SIZE: "1048576"})) == 1 << 20
    assert size_of(Snapshot(1, SnapshotKind.VIEW, b"", (), {MAX_SIZE: "1048576"})) == 0
    assert size_of(Snapshot(1, SnapshotKind.ACTIVE, b"", (), {})) == 0


@pytest.mark.parametrize("driver", ["overlay", "fuse", "xar", "btrfs"])
def test_what_is_no_number_is_refused_by_every_driver(scratch: Path, driver: str) -> None:
    with a_subject(driver, scratch) as subject:
        for size in ("0", "-1", "1M", "9" * 30, "\u0661"):
            with pytest.raises(InvalidArgument, match="no number of bytes"):
                subject.snapshots.prepare("work", labels={MAX_SIZE: size})
        subject.snapshots.prepare("work")


@pytest.mark.parametrize("driver", ["overlay", "fuse", "xar"])
def test_where_there_are_no_quotas_it_changes_nothing(scratch: Path, driver: str) -> None:
    with a_subject(driver, scratch) as subject:
        subject.layer("base", a="1")
        subject.snapshots.prepare("work", "base", {MAX_SIZE: "1048576"})
        with subject.at("work") as target:
            (target / "b").write_text("2")
        subject.snapshots.commit("top", "work")
        assert subject.view("top") == {"a": "1", "b": "2"}
        subject.snapshots.remove("top")
        subject.snapshots.cleanup()
