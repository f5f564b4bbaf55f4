"""Recovery: interrupted steps are finished or taken back when a store is opened, and by cleanup.

Killed processes leave a directory that was being made (its lock is free), a removal that the ledger never heard of (the
directory is in the trash, the row is there), or a commit without its last step. All of them are found without looking
at every snapshot.

A power cut may also keep what the ledger says and lose the renames that came with it. So the first one who opens a
store after its filesystem was mounted compares all directories with all rows: an active snapshot or a view without a
directory was never written to by anybody who made sure of it, and is made again, empty.
"""

import os
from typing import TYPE_CHECKING

from layerfs.snapshots.driver import Snapshot, SnapshotKind
from layerfs.store import rows
from layerfs.store.ledger import Transaction
from layerfs.store.rows import Row
from layerfs.store.session import session_of
from layerfs.sys import dirs
from layerfs.sys.fsmount import AT_FDCWD
from layerfs.value import replace, value

if TYPE_CHECKING:
    from layerfs.snapshots.snapshotter import Snapshotter


def recover(snapshotter: "Snapshotter") -> None:
    """Finish or take back interrupted steps; what a living process works at is left alone."""
    _settle(snapshotter)
    with snapshotter.places.quiet() as is_quiet:
        with snapshotter.ledger.read() as db:
            waiting = [row.id for row in rows.unsealed(db, snapshotter.name)] if is_quiet else []
        for number in waiting:  # those of processes that were killed; else whoever commits seals
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
    """Finish or undo abandoned directories, and take back from the trash what the ledger still has."""
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


def removed(snapshotter: "Snapshotter") -> list[int]:
    """Return the numbers in the trash that are no snapshot's, and never will be one's again.

    A removal puts a directory there before the ledger has it, and takes it back if the ledger cannot.
    """
    with snapshotter.ledger.write() as db:  # nobody is between a rename and the end of a transaction
        trash = snapshotter.places.trash()
        alive = rows.known(db, snapshotter.name, trash)
    return [number for number in trash if number not in alive]


@value
class Survey:
    """How the directories and the rows of a store differ.

    `again` are active snapshots and views whose directory is gone, which can be made again; `lost` are committed ones
    and those that share a committed one's, for which nothing can be done; `strays` are the numbers of directories that
    belong to no snapshot.
    """

    again: tuple[Row, ...]
    lost: tuple[Row, ...]
    strays: tuple[int, ...]


def survey(snapshotter: "Snapshotter") -> Survey:
    """Compare all directories with all rows, and change nothing."""
    with snapshotter.ledger.write() as db:  # nobody removes, and is between a rename and the end of a transaction
        return _survey(snapshotter, db)


def mend(snapshotter: "Snapshotter") -> Survey:
    """Compare all directories with all rows, and mend what can be mended; strays go into the trash."""
    with snapshotter.ledger.write() as db:
        found = _survey(snapshotter, db)
        for place in found.strays:
            snapshotter.places.set_aside(place)
        for row in found.again:
            _make_again(snapshotter, snapshotter.seen(db, row))
    return found


def _make_again(snapshotter: "Snapshotter", snapshot: Snapshot) -> None:
    """Make the lost directory of a snapshot again; what a process that was killed at this left is removed first.

    It is made in a place of its own: a directory where new ones are made counts as whole once the ledger has it.
    """
    places, driver = snapshotter.places, snapshotter.driver
    staged = places.again(snapshot.id)
    if os.path.lexists(staged):
        driver.discard(staged)
        dirs.remove(AT_FDCWD, staged)
    os.mkdir(staged, 0o700)
    driver.create(replace(snapshot, directory=staged))
    os.rename(staged, snapshot.directory)


def _survey(snapshotter: "Snapshotter", db: Transaction) -> Survey:
    owners = rows.owners(db, snapshotter.name)
    there = set(snapshotter.places.there())
    making = snapshotter.places.making_now()  # later: who makes one has its lock until its row is there
    found = [rows.by_id(db, owners[place]) for place in sorted(owners.keys() - there)]
    missing = [row for row in found if row is not None]
    return Survey(
        again=tuple(row for row in missing if row.kind is not SnapshotKind.COMMITTED and not row.is_staged),
        lost=tuple(row for row in missing if row.kind is SnapshotKind.COMMITTED or row.is_staged),
        strays=tuple(sorted(there - owners.keys() - making)),
    )
