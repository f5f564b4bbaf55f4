"""A store looked after; tests/cli/test_store.py looks at what is said."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.snapshots.maintenance import Fault, check, collect, tally
from layerfs.store.info import SnapshotKind
from tests.contract.subjects import Subject, a_subject


@pytest.fixture
def subject(scratch: Path) -> Iterator[Subject]:
    with a_subject("overlay", scratch) as found:
        yield found


def lose(subject: Subject, number: int) -> None:
    subject.snapshots.places.set_aside(number)
    subject.snapshots.places.erase(number)


def test_lost_snapshot_is_given_up_only_if_nothing_stands_on_it(subject: Subject) -> None:
    subject.layer("base", a="1")
    subject.layer("top", "base", b="1")
    lose(subject, 1)
    said = "committed snapshot base has lost its directory 1"
    assert check(subject.store, repair=False) == [Fault("overlay", said, False)]
    assert check(subject.store, repair=True) == [Fault("overlay", said, False)]
    lose(subject, 2)
    assert [fault.mended for fault in check(subject.store, repair=True)] == [False, True]
    assert [fault.mended for fault in check(subject.store, repair=True)] == [True]
    assert check(subject.store, repair=False) == []


def test_record_that_holds_what_is_missing_is_a_fault(subject: Subject) -> None:
    missing = "sha256:" + "0" * 64
    subject.store.records.put("image", "a", missing, [missing, "snapshot:overlay/base"])
    assert [fault.what for fault in check(subject.store, repair=True)] == [
        f"{missing} is missing, which a needs",
        "snapshot:overlay/base is missing, which a needs",
    ]


def test_driver_that_cannot_be_loaded_is_a_fault(subject: Subject) -> None:
    with subject.store.ledger.write() as db:
        db.run("INSERT INTO snapshots VALUES (9, 'gone', 'k', 2, NULL, 0, 0, 0, 0, 1, 9)")
    assert [fault.where for fault in check(subject.store, repair=True)] == ["gone"]


def test_tally_counts_shared_content_once(subject: Subject) -> None:
    subject.layer("base", a="1" * 10_000)
    one = tally(subject.store)["overlay"].committed
    subject.snapshots.adopt("again", "base")
    subject.snapshots.prepare("work", "again")
    found = tally(subject.store)["overlay"]
    assert found.committed == one
    assert found.counts == {SnapshotKind.VIEW: 0, SnapshotKind.ACTIVE: 1, SnapshotKind.COMMITTED: 2}
    assert found.active.inodes == 1


def test_volatile_snapshot_that_a_power_cut_took_keeps_nobody_from_counting(subject: Subject) -> None:
    subject.layer("base", a="1")
    subject.snapshots.prepare("work", "base")
    subject.snapshots.commit("top", "work", volatile=True)
    lose(subject, 2)
    assert tally(subject.store)["overlay"].counts[SnapshotKind.COMMITTED] == 2


def test_collection_goes_on_where_a_driver_fails(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck() -> int:
        raise OSError(16, "Device or resource busy")

    with subject.store.content.ingest() as taking:
        taking.write(b"layer")
        blob, held = taking.commit()
    os.close(held)
    monkeypatch.setattr(subject.snapshots, "cleanup", stuck)
    with pytest.raises(OSError, match="busy"):
        collect(subject.store)
    assert not os.path.exists(blob.path)


def test_collection_leaves_alone_what_is_mounted(subject: Subject) -> None:
    with subject.store.content.ingest() as taking:
        taking.write(b"layer")
        blob, held = taking.commit()
    os.close(held)
    assert len(collect(subject.store, {blob.path}).content.spared) == 1
    assert len(collect(subject.store).content.evicted) == 1
