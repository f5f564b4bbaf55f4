"""Ledgers of other versions."""

import os
import sqlite3
from pathlib import Path

import pytest

from layerfs.errors import Unsupported
from layerfs.store import ledger as module
from layerfs.store.ledger import Ledger
from layerfs.store.schema import APPLICATION, MIGRATIONS


def version(scratch: Path) -> tuple[int, int]:
    with sqlite3.connect(scratch / "ledger.db") as connection:
        found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id")]
    connection.close()
    return found[0], found[1]


def test_older_ledger_is_brought_forward_with_what_it_holds(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Ledger(os.fsencode(scratch))
    with old.write() as db:
        db.run("INSERT INTO records VALUES ('image', 'a', 'sha256:x', '{}', 0, 0)")
    old.close()
    assert version(scratch) == (len(MIGRATIONS), APPLICATION)
    monkeypatch.setattr(module, "MIGRATIONS", (*MIGRATIONS, ("ALTER TABLE records ADD COLUMN more TEXT",)))
    new = Ledger(os.fsencode(scratch))
    with new.read() as db:
        assert db.all("SELECT name, more FROM records") == [("a", None)]
    new.close()
    assert version(scratch)[0] == len(MIGRATIONS) + 1
    monkeypatch.undo()
    with pytest.raises(Unsupported, match="newer layerfs"):
        Ledger(os.fsencode(scratch))


def test_migration_that_fails_leaves_the_ledger_as_it_was(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Ledger(os.fsencode(scratch)).close()
    steps = (*MIGRATIONS, ("CREATE TABLE half (a)", "CREATE TABLE half (a)"))
    monkeypatch.setattr(module, "MIGRATIONS", steps)
    with pytest.raises(Exception, match="half"):
        Ledger(os.fsencode(scratch))
    monkeypatch.undo()
    assert version(scratch)[0] == len(MIGRATIONS)
    Ledger(os.fsencode(scratch)).close()
