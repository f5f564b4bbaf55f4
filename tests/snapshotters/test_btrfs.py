"""The driver btrfs: where it can be, owners, and a bound on what a snapshot takes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument, Unsupported
from layerfs.snapshots.driver import GIDS, UIDS
from layerfs.snapshots.library import open_store
from tests.contract.subjects import Subject, a_subject

MAX_SIZE = "containerd.io/snapshot/max-size"


@pytest.fixture
def subject(scratch: Path) -> Iterator[Subject]:
    with a_subject("btrfs", scratch) as found:
        yield found


def test_root_that_is_not_on_btrfs_is_refused(scratch: Path) -> None:
    with open_store(scratch / "store") as store, pytest.raises(Unsupported, match="is not on btrfs"):
        store.snapshotter("btrfs")


def test_owners_are_shifted_both_ways(subject: Subject) -> None:
    subject.layer("base", a="1")
    subject.snapshots.prepare("work", "base", {UIDS: "0:100000:65536", GIDS: "0:200000:65536"})
    with subject.at("work") as target:
        assert ((target / "a").stat().st_uid, (target / "a").stat().st_gid) == (100000, 200000)
        os.chown(target / "a", 100007, 200007)
    assert Path(os.fsdecode(subject.snapshots.layer("work").path), "a").stat().st_uid == 7


def test_label_bounds_what_a_snapshot_takes(subject: Subject) -> None:
    subject.layer("base", a="1")
    for size in ("0", "-1", "1G", "9" * 30):
        with pytest.raises(InvalidArgument):
            subject.snapshots.prepare("bad", "base", {MAX_SIZE: size})
    subject.snapshots.prepare("work", "base", {MAX_SIZE: str(8 << 20)})
    with subject.at("work") as target, pytest.raises(OSError, match="quota"):
        with open(target / "big", "wb", buffering=0) as file:
            for _ in range(32):
                file.write(os.urandom(1 << 20))
                os.fsync(file.fileno())
