"""The questions that are asked of the ledger go through indexes, whatever the number of snapshots."""

import os
import re
from pathlib import Path

from layerfs.store import rows
from layerfs.store.info import Info, SnapshotKind
from layerfs.store.ledger import Ledger, Transaction
from layerfs.store.rows import Where

QUESTIONS = {
    "find": lambda db: rows.find(db, "d", "k1"),
    "locate": lambda db: rows.locate(db, "d", "k1"),
    "exists": lambda db: rows.exists(db, "d", "k1"),
    "chain": lambda db: rows.chain(db, 3),
    "is_used": lambda db: rows.is_used(db, 3),
    "alike": lambda db: rows.alike(db, "d", "k1", "a"),
    "alike on something": lambda db: rows.alike(db, "d", "k1", "a", 3),
    "labelled": lambda db: rows.labelled(db, "d", "a", "1"),
    "has_children": lambda db: rows.has_children(db, 1),
    "unsealed": lambda db: rows.unsealed(db, "d"),
    "known": lambda db: rows.known(db, "d", [1, 2, 99]),
    "walk by name": lambda db: list(rows.walk(db, "d", Where(key="k1"))),
    "walk by parent": lambda db: list(rows.walk(db, "d", Where(parent="k1"))),
    "walk by label": lambda db: list(rows.walk(db, "d", Where(labels=(("a", "1"),)))),
}


def test_no_question_reads_all_snapshots(scratch: Path, monkeypatch: object) -> None:
    ledger = Ledger(os.fsencode(scratch))
    with ledger.write() as db:
        for number in range(1, 2001):
            parent = number - 1 if number < 4 else 0
            rows.insert(db, "d", number, Info(f"k{number}", SnapshotKind.COMMITTED, labels={"a": str(number)}), parent)
        db.run("ANALYZE")
    with ledger.read() as db:
        plans = {name: plan_of(db, ask) for name, ask in QUESTIONS.items()}
    ledger.close()
    scans = re.compile(r"SCAN (s|snapshots|labels)\b")
    assert {name: plan for name, plan in plans.items() if any(map(scans.match, plan))} == {}


def plan_of(db: Transaction, ask: object) -> list[str]:
    """What SQLite says that it would do for the statements of a question."""
    asked: list[tuple[str, tuple[object, ...]]] = []

    class Listening(Transaction):
        def run(self, statement: str, *values: object) -> object:  # type: ignore[override]
            asked.append((statement, values))
            return super().run(statement, *values)

    ask(Listening(db._connection))  # type: ignore[operator]
    return [line[3] for statement, values in asked for line in db.all(f"EXPLAIN QUERY PLAN {statement}", *values)]


def test_taken_key_and_absent_parent_are_refused_and_change_nothing(scratch: Path) -> None:
    ledger = Ledger(os.fsencode(scratch))
    with ledger.write() as db:
        assert rows.insert(db, "d", 1, Info("a", SnapshotKind.COMMITTED), 0)
        assert not rows.insert(db, "d", 2, Info("a", SnapshotKind.ACTIVE, labels={"x": "1"}), 0)
        assert not rows.insert(db, "d", 3, Info("b", SnapshotKind.ACTIVE, labels={"x": "1"}), 99)
        assert rows.insert(db, "d", 4, Info("b", SnapshotKind.ACTIVE), 1)
        assert [row.id for row in rows.walk(db, "d", Where())] == [1, 4]
        assert rows.locate(db, "d", "b") == (4, 4)
        assert rows.locate(db, "d", "c") is None
    ledger.close()


def test_walk_is_by_key_and_has_the_labels_of_each(scratch: Path) -> None:
    ledger = Ledger(os.fsencode(scratch))
    with ledger.write() as db:
        rows.insert(db, "d", 7, Info("b", SnapshotKind.COMMITTED, labels={"x": "1", "y": "2"}), 0)
        rows.insert(db, "d", 8, Info("a", SnapshotKind.VIEW), 7)
        rows.insert(db, "other", 9, Info("a", SnapshotKind.ACTIVE), 0)
        found = [row.info for row in rows.walk(db, "d", Where())]
        assert rows.total(db, "d")[0] == {SnapshotKind.VIEW: 1, SnapshotKind.ACTIVE: 0, SnapshotKind.COMMITTED: 1}
    ledger.close()
    assert found == [Info("a", SnapshotKind.VIEW, "b", {}), Info("b", SnapshotKind.COMMITTED, "", {"x": "1", "y": "2"})]
