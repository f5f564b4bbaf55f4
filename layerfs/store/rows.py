"""The snapshots in the ledger: every question and every change, in SQL. No policy: who may do what is decided above.

Each question goes through an index, so none costs more with more snapshots, but for a walk through all.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Final

from layerfs.store.info import UNCOUNTED, Info, SnapshotKind, Usage
from layerfs.store.ledger import Transaction
from layerfs.store.schema import TAIL
from layerfs.value import value

DEEPEST: Final = 10_000  # parents above a snapshot; a ledger that says more is damaged


@value
class Row:
    """A snapshot as the ledger has it; `parent` is an id, 0 without one, `place` the number of its directory."""

    id: int
    place: int
    kind: SnapshotKind
    parent: int
    info: Info
    usage: Usage

    @property
    def is_staged(self) -> bool:
        """Tell whether it is active and its directory is another's, so that nobody may write to it."""
        return self.kind is SnapshotKind.ACTIVE and self.place != self.id


@value
class Where:
    """Conditions of a walk; None, or an empty one, is no condition."""

    key: str | None = None
    parent: str | None = None
    kind: SnapshotKind | None = None
    labels: tuple[tuple[str, str], ...] = ()


_COLUMNS: Final = (
    "s.id, s.place, s.key, s.kind, coalesce(s.parent, 0), coalesce(p.key, ''), s.created, s.updated, s.size, s.inodes"
)
_PARENT: Final = "LEFT JOIN snapshots p ON p.id = s.parent"
_FROM: Final = f"FROM snapshots s {_PARENT}"
_TAIL: Final = TAIL.replace("key", "s.key")  # the same expression, so that its index serves


_LABELED: Final = f"{_COLUMNS}, l.name, l.value"
_LABELS: Final = "LEFT JOIN labels l ON l.snapshot = s.id"
_BY_KEY: Final = f"SELECT {_LABELED} {_FROM} {_LABELS} WHERE s.driver = ? AND s.key = ?"
_ABOVE: Final = f"""(
    WITH RECURSIVE up (parent, place, depth) AS (
        SELECT parent, place, 1 FROM snapshots WHERE id = s.parent
        UNION ALL
        SELECT n.parent, n.place, depth + 1 FROM up JOIN snapshots n ON n.id = up.parent WHERE depth < {DEEPEST}
    ) SELECT group_concat(place) FROM (SELECT place FROM up ORDER BY depth)
)"""
_TRACED: Final = f"SELECT {_LABELED}, {_ABOVE} {_FROM} {_LABELS} WHERE s.driver = ? AND s.key = ?"


def find(db: Transaction, driver: str, key: str) -> Row | None:
    """Return the snapshot of a key."""
    return next(_rows(db.all(_BY_KEY, driver, key)), None)


def trace(db: Transaction, driver: str, key: str) -> tuple[Row, list[int]] | None:
    """Return the snapshot of a key and the places of its parents, nearest first, as they are at one moment."""
    lines = db.all(_TRACED, driver, key)
    if not lines:
        return None
    above = lines[0][-1]
    return next(_rows(line[:-1] for line in lines)), list(map(int, above.split(","))) if above else []


def locate(db: Transaction, driver: str, key: str) -> tuple[int, int] | None:
    """Return the id of the snapshot of a key, and the number of its directory."""
    found: tuple[int, int] | None = db.one("SELECT id, place FROM snapshots WHERE driver = ? AND key = ?", driver, key)
    return found


def exists(db: Transaction, driver: str, key: str) -> bool:
    """Tell whether a key or name is taken."""
    return db.one("SELECT 1 FROM snapshots WHERE driver = ? AND key = ?", driver, key) is not None


def labels(db: Transaction, number: int) -> dict[str, str]:
    """Return the labels of a snapshot."""
    return dict(db.all("SELECT name, value FROM labels WHERE snapshot = ?", number))


def chain(db: Transaction, number: int) -> list[int]:
    """Return the places of a snapshot and its parents, nearest first; 0 is no snapshot."""
    found = db.all(
        """WITH RECURSIVE up (parent, place, depth) AS (
            SELECT parent, place, 1 FROM snapshots WHERE id = ?
            UNION ALL
            SELECT s.parent, s.place, depth + 1 FROM up JOIN snapshots s ON s.id = up.parent WHERE depth < ?
        ) SELECT place FROM up ORDER BY depth""",
        number,
        DEEPEST,
    )
    return [place for (place,) in found]


def place_of(db: Transaction, number: int) -> int:
    """Return the number of a snapshot's directory; 0 for no snapshot."""
    found = db.one("SELECT place FROM snapshots WHERE id = ?", number)
    return 0 if found is None else int(found[0])


def is_used(db: Transaction, place: int) -> bool:
    """Tell whether a directory is a snapshot's."""
    return db.one("SELECT 1 FROM snapshots WHERE place = ? LIMIT 1", place) is not None


def alike(db: Transaction, driver: str, ref: str, label: str, below: int | None = None) -> Row | None:
    """Return a committed snapshot that has a label, or whose name ends in the same text behind its last slash.

    With `below` only one whose parent has the directory of that number, or that has no parent for 0.
    """
    found = labelled(db, driver, label, ref, below)
    return found or _first(db, f"snapshots s {_PARENT}", f"s.driver = ? AND {_TAIL} = ?", below, driver, ref)


def labelled(db: Transaction, driver: str, label: str, content: str, below: int | None = None) -> Row | None:
    """Return a committed snapshot that has a label of this content; `below` as above."""
    joined = f"labels x JOIN snapshots s ON s.id = x.snapshot {_PARENT}"
    return _first(db, joined, "x.name = ? AND x.value = ? AND s.driver = ?", below, label, content, driver)


def _first(db: Transaction, source: str, condition: str, below: int | None, *values: str) -> Row | None:
    """Return one of the committed snapshots of a condition, however many there are."""
    where = f"{condition} AND s.kind = {SnapshotKind.COMMITTED.value}"
    more: tuple[int, ...] = ()
    if below is not None:
        where, more = f"{where} AND coalesce(p.place, 0) = ?", (below,)
    found = db.one(f"SELECT {_COLUMNS} FROM {source} WHERE {where} LIMIT 1", *values, *more)
    return None if found is None else _row(found, {})


def showing(db: Transaction, driver: str, place: int) -> list[str]:
    """Return the keys of snapshots whose mounts name a directory: its own, and some of the views of it.

    All views of one snapshot have the same mounts, so a few are enough.
    """
    own = db.all("SELECT key FROM snapshots WHERE driver = ? AND place = ?", driver, place)
    views = db.all(
        "SELECT v.key FROM snapshots p JOIN snapshots v ON v.parent = p.id"
        " WHERE p.driver = ? AND p.place = ? AND v.kind = ? LIMIT 64",
        *(driver, place, SnapshotKind.VIEW.value),
    )
    return [key for (key,) in (*own, *views)]


def has_children(db: Transaction, number: int) -> bool:
    """Tell whether a snapshot is somebody's parent."""
    return db.one("SELECT 1 FROM snapshots WHERE parent = ? LIMIT 1", number) is not None


def insert(db: Transaction, driver: str, number: int, info: Info, parent: int) -> bool:
    """Add a snapshot with a directory of its own; False, with nothing changed, if its key is taken or its parent gone.

    The tables' own constraints say so: it costs no question.
    """
    try:
        share(db, driver, number, info, parent, number, Usage())
    except sqlite3.IntegrityError:
        return False
    return True


def share(db: Transaction, driver: str, number: int, info: Info, parent: int, place: int, usage: Usage) -> None:
    """Add a snapshot whose directory is another's; its key must be free."""
    db.run(
        "INSERT INTO snapshots (id, place, driver, key, kind, parent, created, updated, size, inodes)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *(number, place, driver, info.name, info.kind.value, parent or None, info.created, info.updated),
        *(usage.size, usage.inodes),
    )
    _put_labels(db, number, info.labels)


def commit(db: Transaction, number: int, info: Info, parent: int, usage: Usage) -> None:
    """Make an active snapshot a committed one, not sealed yet, with other labels; its new name must be free."""
    db.run(
        "UPDATE snapshots SET key = ?, kind = ?, parent = ?, created = ?, updated = ?, size = ?, inodes = ?, sealed = 0"
        " WHERE id = ?",
        *(
            info.name,
            SnapshotKind.COMMITTED.value,
            parent or None,
            info.created,
            info.updated,
            usage.size,
            usage.inodes,
        ),
        number,
    )
    replace_labels(db, number, info.labels)


def replace_labels(db: Transaction, number: int, labels: Mapping[str, str]) -> None:
    """Give a snapshot these labels and no others."""
    db.run("DELETE FROM labels WHERE snapshot = ?", number)
    _put_labels(db, number, labels)


def touch(db: Transaction, number: int, now: int) -> None:
    """Set the time of the last update."""
    db.run("UPDATE snapshots SET updated = ? WHERE id = ?", now, number)


def seal(db: Transaction, numbers: list[int]) -> None:
    """Note that nothing more is to be done to committed snapshots."""
    db.many("UPDATE snapshots SET sealed = 1 WHERE id = ?", [(number,) for number in numbers])


def unsealed(db: Transaction, driver: str) -> list[Row]:
    """Return the committed snapshots whose commit was interrupted before the end."""
    return list(_rows(db.all(f"SELECT {_LABELED} {_FROM} {_LABELS} WHERE s.driver = ? AND s.sealed = 0", driver)))


def delete(db: Transaction, number: int) -> None:
    """Remove a snapshot that has no children."""
    db.run("DELETE FROM snapshots WHERE id = ?", number)


def known(db: Transaction, driver: str, numbers: list[int]) -> set[int]:
    """Return which of these are the numbers of directories of a driver's snapshots."""
    there: set[int] = set()
    for first in range(0, len(numbers), 500):
        part = numbers[first : first + 500]
        marks = ",".join("?" * len(part))
        found = db.all(f"SELECT place FROM snapshots WHERE driver = ? AND place IN ({marks})", driver, *part)
        there.update(place for (place,) in found)
    return there


def owners(db: Transaction, driver: str) -> dict[int, int]:
    """Return the numbers of all directories of a driver's snapshots, each with the id of a snapshot that has it."""
    return dict(db.all("SELECT place, min(id) FROM snapshots WHERE driver = ? GROUP BY place", driver))


def drivers(db: Transaction) -> list[str]:
    """Return the names of the drivers that have snapshots."""
    return [name for (name,) in db.all("SELECT DISTINCT driver FROM snapshots ORDER BY driver")]


def by_id(db: Transaction, number: int) -> Row | None:
    """Return the snapshot of an id."""
    return next(_rows(db.all(f"SELECT {_LABELED} {_FROM} {_LABELS} WHERE s.id = ?", number)), None)


def count(db: Transaction, place: int, usage: Usage) -> None:
    """Note what the committed snapshots of a directory take."""
    db.run(
        "UPDATE snapshots SET size = ?, inodes = ? WHERE place = ? AND size = ?",
        *(usage.size, usage.inodes, place, UNCOUNTED.size),
    )


def uncounted(db: Transaction, driver: str) -> list[str]:
    """Return the keys of snapshots that are not counted yet, one for each directory."""
    found = db.all(
        "SELECT min(key) FROM snapshots WHERE driver = ? AND size = ? GROUP BY place", driver, UNCOUNTED.size
    )
    return [key for (key,) in found]


def total(db: Transaction, driver: str) -> tuple[dict[SnapshotKind, int], Usage]:
    """Return how many snapshots of each kind a driver has, and what its committed ones take."""
    counts = dict.fromkeys(SnapshotKind, 0)
    for kind, count in db.all("SELECT kind, count(*) FROM snapshots WHERE driver = ? GROUP BY kind", driver):
        counts[SnapshotKind(kind)] = count
    sums = db.one(
        "SELECT coalesce(sum(size), 0), coalesce(sum(inodes), 0)"
        " FROM (SELECT DISTINCT place, size, inodes FROM snapshots WHERE driver = ? AND size != ?)",
        *(driver, UNCOUNTED.size),
    )
    return counts, Usage(*sums)


def fact(db: Transaction, name: str) -> str | None:
    """Return a fact about the store."""
    found = db.one("SELECT value FROM facts WHERE name = ?", name)
    return None if found is None else str(found[0])


def put_fact(db: Transaction, name: str, content: str) -> None:
    """Write down a fact about the store."""
    db.run("INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, content)


def walk(db: Transaction, driver: str, where: Where) -> Iterator[Row]:
    """Yield snapshots by key, read as they are asked for."""
    conditions, values = ["s.driver = ?"], [driver]
    if where.key is not None:
        conditions.append("s.key = ?")
        values.append(where.key)
    if where.parent is not None:
        conditions.append("s.parent = (SELECT id FROM snapshots WHERE driver = ? AND key = ?)")
        values += [driver, where.parent]
    if where.kind is not None:
        conditions.append(f"s.kind = {where.kind.value}")
    for name, content in where.labels:
        conditions.append("s.id IN (SELECT snapshot FROM labels WHERE name = ? AND value = ?)")
        values += [name, content]
    yield from _rows(
        db.run(f"SELECT {_LABELED} {_FROM} {_LABELS} WHERE {' AND '.join(conditions)} ORDER BY s.key", *values)
    )


def _put_labels(db: Transaction, number: int, labels: Mapping[str, str]) -> None:
    db.many("INSERT INTO labels VALUES (?, ?, ?)", [(number, name, content) for name, content in labels.items()])


def _rows(lines: Iterable[Any]) -> Iterator[Row]:
    """Yield the snapshots of rows that hold one label each, or none; the rows of one snapshot are adjacent."""
    for columns, group in groupby(lines, key=lambda line: line[:-2]):
        yield _row(columns, {name: content for *_, name, content in group if name is not None})


def _row(columns: Any, labels: Mapping[str, str]) -> Row:
    number, place, key, kind, parent, parent_key, created, updated, size, inodes = columns
    info = Info(key, SnapshotKind(kind), parent_key, labels, created, updated)
    return Row(number, place, info.kind, parent, info, Usage(size, inodes))
