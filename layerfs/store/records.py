"""Named records in the ledger (images, pins of remote layers), and what they hold.

A record holds digests of blobs (`sha256:...`) and snapshots (`snapshot:DRIVER/NAME`): what a record holds is not
collected. Record and holds change in one transaction.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from layerfs.errors import NotFound
from layerfs.store.info import NOTHING
from layerfs.store.ledger import Ledger
from layerfs.value import value


@value
class Record:
    """One record: its name is unique among those of its kind, such as `image`. Times in nanoseconds since 1970."""

    kind: str
    name: str
    digest: str
    labels: Mapping[str, str] = NOTHING
    created: int = 0
    updated: int = 0


_COLUMNS = "kind, name, digest, labels, created, updated"


class Records:
    """The records of a store; any thread may use them."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def put(
        self, kind: str, name: str, digest: str, holds: Iterable[str], labels: Mapping[str, str] = NOTHING
    ) -> Record:
        """Make a record, or replace it with all that it holds; it is on disk then."""
        import json  # 2 ms, which snapshots alone need not pay

        now = time.time_ns()
        with self._ledger.write() as db:
            old = db.one("SELECT created FROM records WHERE kind = ? AND name = ?", kind, name)
            db.run("DELETE FROM records WHERE kind = ? AND name = ?", kind, name)
            created = now if old is None else int(old[0])
            record = Record(kind, name, digest, dict(labels), created, now)
            text = json.dumps(record.labels)
            db.run("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)", kind, name, digest, text, created, now)
            db.many("INSERT INTO holds VALUES (?, ?, ?)", [(kind, name, hold) for hold in sorted(set(holds))])
        self._ledger.sync()
        return record

    def get(self, kind: str, name: str) -> Record | None:
        """Return a record."""
        with self._ledger.read() as db:
            found = db.one(f"SELECT {_COLUMNS} FROM records WHERE kind = ? AND name = ?", kind, name)
        return None if found is None else _record(found)

    def all(self, kind: str) -> list[Record]:
        """Return the records of a kind, by name."""
        with self._ledger.read() as db:
            return list(map(_record, db.all(f"SELECT {_COLUMNS} FROM records WHERE kind = ? ORDER BY name", kind)))

    def remove(self, kind: str, name: str) -> list[str]:
        """Remove a record; return what it held and nothing holds now. Raises NotFound."""
        with self._ledger.write() as db:
            held = db.all("SELECT hold FROM holds WHERE kind = ? AND name = ?", kind, name)
            if not db.run("DELETE FROM records WHERE kind = ? AND name = ?", kind, name).rowcount:
                raise NotFound(f"there is no {kind} {name}")
            free = [hold for (hold,) in held if db.one("SELECT 1 FROM holds WHERE hold = ? LIMIT 1", hold) is None]
        return free

    def holds(self, kind: str, name: str) -> list[str]:
        """Return what a record holds."""
        with self._ledger.read() as db:
            found = db.all("SELECT hold FROM holds WHERE kind = ? AND name = ?", kind, name)
        return [hold for (hold,) in found]

    def holders(self, hold: str) -> list[Record]:
        """Return the records that hold something."""
        with self._ledger.read() as db:
            found = db.all(f"SELECT {_COLUMNS} FROM records NATURAL JOIN holds WHERE hold = ? ORDER BY 1, 2", hold)
        return list(map(_record, found))

    def held(self) -> set[str]:
        """Return all that is held."""
        with self._ledger.read() as db:
            return {hold for (hold,) in db.all("SELECT DISTINCT hold FROM holds")}


def _record(columns: Any) -> Record:
    import json

    kind, name, digest, labels, created, updated = columns
    return Record(kind, name, digest, json.loads(labels), created, updated)
