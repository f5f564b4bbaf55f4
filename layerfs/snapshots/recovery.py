"""What was interrupted, finished or taken back: by whoever opens a store next, and by cleanup.

Killed processes leave a directory that was being made (its lock is free), a removal that the ledger never heard of (the
directory is in the trash, the row is there), or a commit without its last step. All of them are found without looking
at every snapshot.

A power cut may also keep what the ledger says and lose the renames that came with it. So the first one who opens a
store after its filesystem was mounted compares all directories with all rows: an active snapshot or a view without a
directory was never written to by anybody who made sure of it, and is made again, empty.
"""

from typing import TYPE_CHECKING

from layerfs.snapshots.driver import Kind
from layerfs.store import rows
from layerfs.store.session import session_of

if TYPE_CHECKING:
    from layerfs.snapshots.snapshotter import Snapshotter


def recover(snapshotter: "Snapshotter") -> None:
    """Finish or take back what was interrupted; what somebody works at is left alone."""
    _settle(snapshotter)
    with snapshotter.ledger.read() as db:
        waiting = [row.id for row in rows.unsealed(db, snapshotter.name)]
    for number in waiting:
        snapshotter.seal(number)
    fact = f"session of {snapshotter.name}"
    session = session_of(snapshotter.places.root)
    with snapshotter.ledger.read() as db:
        known = rows.fact(db, fact)
    if known != session:
        mend(snapshotter)
        with snapshotter.ledger.write() as db:
            rows.put_fact(db, fact, session)


def _settle(snapshotter: "Snapshotter") -> None:
    """Decide what becomes of abandoned directories, and of those in the trash that the ledger still has."""
    places = snapshotter.places
    with places.abandoned() as numbers:
        trash = places.trash()
        with snapshotter.ledger.read() as db:
            doubtful = rows.known(db, snapshotter.name, trash)
        if not numbers and not doubtful:
            return
        with snapshotter.ledger.write() as db:  # so nobody is between a rename and the end of a transaction
            alive = rows.known(db, snapshotter.name, [*numbers, *trash])
            for number in alive.intersection(trash):
                places.restore(number)
            for number in numbers:
                if number in alive:
                    places.finished(number)
                else:
                    places.give_up(number)


def mend(snapshotter: "Snapshotter") -> tuple[list[int], list[int], list[int]]:
    """Compare all directories with all rows and mend what can be mended.

    Returns the numbers of directories that were made again, of those that nobody knows, now in the trash, and of those
    of committed snapshots that are gone, for which nothing can be done.
    """
    places = snapshotter.places
    with snapshotter.ledger.write() as db:
        owners = rows.owners(db, snapshotter.name)
        there = set(places.there())
        strays = sorted(there - owners.keys())
        missing = [rows.by_id(db, owners[place]) for place in sorted(owners.keys() - there)]
        lost = [row.place for row in missing if row.kind is Kind.COMMITTED]
        again = [row for row in missing if row.kind is not Kind.COMMITTED]
        for place in strays:
            places.set_aside(place)
        for row in again:
            snapshotter.create(snapshotter.seen(db, row))
    return [row.place for row in again], strays, lost
