"""What must hold before a snapshot is made or committed, against a ledger without directories."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.errors import AlreadyExists, InvalidArgument, LayerfsError, NotFound, NotReady
from layerfs.snapshots.driver import Capability, Info, SnapshotKind
from layerfs.snapshots.preconditions import demand_same_parent, require, to_commit, to_make
from layerfs.store import rows
from layerfs.store.ledger import Ledger, Transaction

REBASE = frozenset({Capability.REBASE})


@pytest.fixture
def db(scratch: Path) -> Iterator[Transaction]:
    """A ledger with `base` (1, committed), `active` (2, on top of it), `alone` (3, active) and `view` (4)."""
    ledger = Ledger(os.fsencode(scratch))
    with ledger.write() as db:
        rows.insert(db, "d", 1, Info("base", SnapshotKind.COMMITTED), 0)
        rows.insert(db, "d", 2, Info("active", SnapshotKind.ACTIVE, "base"), 1)
        rows.insert(db, "d", 3, Info("alone", SnapshotKind.ACTIVE), 0)
        rows.insert(db, "d", 4, Info("view", SnapshotKind.VIEW, "base"), 1)
        yield db
    ledger.close()


def test_a_snapshot_is_made_on_nothing_or_on_a_committed_one(db: Transaction) -> None:
    assert to_make(db, "d", Info("new", SnapshotKind.ACTIVE)) == 0
    assert to_make(db, "d", Info("new", SnapshotKind.ACTIVE, "base")) == 1
    assert to_make(db, "other", Info("base", SnapshotKind.ACTIVE)) == 0


@pytest.mark.parametrize(
    ("name", "parent", "error"),
    [("new", "none", NotFound), ("new", "active", InvalidArgument), ("new", "view", InvalidArgument),
     ("view", "base", AlreadyExists), ("base", "", AlreadyExists)],
)  # fmt: skip
def test_what_keeps_a_snapshot_from_being_made(
    db: Transaction, name: str, parent: str, error: type[LayerfsError]
) -> None:
    with pytest.raises(error):
        to_make(db, "d", Info(name, SnapshotKind.ACTIVE, parent))


def test_a_parent_that_was_made_again_is_another_one(db: Transaction) -> None:
    info = Info("new", SnapshotKind.ACTIVE, "base")
    demand_same_parent(db, "d", info, 1)
    with pytest.raises(NotFound, match="parent base was removed and made again"):
        demand_same_parent(db, "d", info, 9)


def test_an_active_snapshot_is_committed_on_its_parent_or_gets_one(db: Transaction) -> None:
    done = to_commit(db, "d", Info("new", SnapshotKind.COMMITTED), "active", frozenset())
    assert (done[0].id, done[1]) == (2, 1)
    done = to_commit(db, "d", Info("new", SnapshotKind.COMMITTED, "base"), "alone", REBASE)
    assert (done[0].id, done[1]) == (3, 1)


@pytest.mark.parametrize(
    ("name", "parent", "key", "error"),
    [("new", "", "none", NotFound), ("base", "", "active", AlreadyExists), ("new", "", "view", NotReady),
     ("new", "", "base", NotReady), ("new", "view", "active", InvalidArgument), ("new", "view", "alone", NotReady),
     ("new", "none", "alone", NotFound)],
)  # fmt: skip
def test_what_keeps_a_snapshot_from_being_committed(
    db: Transaction, name: str, parent: str, key: str, error: type[LayerfsError]
) -> None:
    with pytest.raises(error):
        to_commit(db, "d", Info(name, SnapshotKind.COMMITTED, parent), key, REBASE)


def test_a_driver_without_rebase_gives_no_parent(db: Transaction) -> None:
    with pytest.raises(InvalidArgument, match="keep the parent"):
        to_commit(db, "d", Info("new", SnapshotKind.COMMITTED, "base"), "alone", frozenset())


def test_a_key_that_is_required_is_there_or_an_error(db: Transaction) -> None:
    assert require(db, "d", "active").id == 2
    with pytest.raises(NotFound, match="there is no snapshot none"):
        require(db, "d", "none")
