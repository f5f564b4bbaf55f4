"""Maintenance of a store: checking it, collecting what is not needed, and counting what it takes."""

from collections.abc import Callable, Collection
from contextlib import suppress

from layerfs.errors import Corrupt, LayerfsError
from layerfs.snapshots import registry
from layerfs.snapshots.counting import count_all
from layerfs.snapshots.leftovers import HOLD, clear
from layerfs.snapshots.library import Store
from layerfs.snapshots.recovery import mend, survey
from layerfs.snapshots.snapshotter import Snapshotter
from layerfs.store import rows
from layerfs.store.content import NAME
from layerfs.store.eviction import Swept, sweep
from layerfs.store.info import SnapshotKind, Usage
from layerfs.value import value

Progress = Callable[[int, int], None]


@value
class Fault:
    """Something wrong: where, what, and whether it was mended."""

    where: str
    what: str
    mended: bool = False


@value
class Collected:
    """What a collection removed: directories of snapshots, and what left the content."""

    snapshots: int
    content: Swept


@value
class Tally:
    """What one driver's snapshots take: how many there are of each kind, and their bytes and inodes.

    Committed ones are counted as they were at commit, active ones as they are.
    """

    counts: dict[SnapshotKind, int]
    committed: Usage
    active: Usage


def check(store: Store, *, repair: bool, progress: Progress = lambda done, total: None) -> list[Fault]:
    """Return all that is wrong with a store; with `repair` what can be mended is.

    An interrupted step is no fault: opening the store recovers it. A blob whose content differs from its
    digest is moved aside in any case, so that nobody uses it.
    """
    faults = _check_ledger(store)
    with store.ledger.read() as db:
        used = rows.drivers(db)
    for name in used:
        faults += _check_driver(store, name, repair)
    faults += _check_content(store, progress)
    return [*faults, *_check_records(store)]


def collect(store: Store, mounted: Collection[bytes] = ()) -> Collected:
    """Give back what removed snapshots took, and remove what no record holds: blobs, and what was unpacked for images.

    Files that are `mounted` stay.
    """
    snapshotters = _runnable(store)
    clear(store, snapshotters)
    erased, failures = 0, []
    for snapshotter in snapshotters:
        try:
            erased += snapshotter.cleanup()
        except (OSError, LayerfsError) as error:
            failures.append(error)
    wanted = {hold.removeprefix("sha256:") for hold in store.records.held()}
    swept = sweep(store.content.cache, 0, mounted, wanted)
    if failures:  # all else is collected nevertheless
        raise failures[0]
    return Collected(erased, swept)


def tally(store: Store, progress: Progress = lambda done, total: None) -> dict[str, Tally]:
    """Return what each driver's snapshots take; active ones are counted now, which may take a while."""
    found = {}
    for snapshotter in _runnable(store):
        count_all(snapshotter)
        with store.ledger.read() as db:
            counts, committed = rows.total(db, snapshotter.name)
        active = [info.name for info in snapshotter.walk("kind==active")]
        size = inodes = 0
        for done, name in enumerate(active):
            with suppress(LayerfsError):  # removed meanwhile
                usage = snapshotter.usage(name)
                size, inodes = size + usage.size, inodes + usage.inodes
            progress(done + 1, len(active))
        found[snapshotter.name] = Tally(counts, committed, Usage(size, inodes))
    return found


def _runnable(store: Store) -> list[Snapshotter]:
    """Return the snapshotters of the drivers that have snapshots or leftovers, and that this host can run."""
    found = []
    for name in registry.names():
        if store.has(name):
            with suppress(LayerfsError):
                found.append(store.snapshotter(name))
    return found


def _check_ledger(store: Store) -> list[Fault]:
    with store.ledger.read() as db:
        said = [line for (line,) in db.all("PRAGMA integrity_check") if line != "ok"]
        lost = db.all("PRAGMA foreign_key_check")
        uncommitted = db.all(
            "SELECT s.key FROM snapshots s JOIN snapshots p ON p.id = s.parent WHERE p.kind != ?",
            SnapshotKind.COMMITTED.value,
        )
    faults = [Fault("ledger", line) for line in said]
    faults += [Fault("ledger", f"row {row} of {table} needs one of {to} that is missing") for table, row, to, _ in lost]
    return faults + [Fault("ledger", f"the parent of {key} is not committed") for (key,) in uncommitted]


def _check_driver(store: Store, name: str, repair: bool) -> list[Fault]:
    try:
        snapshotter = store.snapshotter(name)
    except LayerfsError as error:
        return [Fault(name, f"its snapshots cannot be looked at: {error.message}")]
    found = mend(snapshotter) if repair else survey(snapshotter)
    faults = [Fault(name, f"snapshot {row.info.name} has no directory {row.place}", repair) for row in found.again]
    faults += [Fault(name, f"directory {place} belongs to no snapshot", repair) for place in found.strays]
    for row in found.lost:
        what = f"committed snapshot {row.info.name} has lost its directory {row.place}"
        faults.append(Fault(name, what, _give_up(snapshotter, row, repair)))
    return faults


def _give_up(snapshotter: Snapshotter, row: rows.Row, repair: bool) -> bool:
    """Remove a snapshot that lost its content, unless it has children; tell whether it is gone."""
    if repair:
        with suppress(LayerfsError):
            snapshotter.remove(row.info.name)
            return True
    return False


def _check_content(store: Store, progress: Progress) -> list[Fault]:
    cache = store.content.cache
    entries, corrupt = cache.entries()
    faults = [Fault("content", error.message) for error in corrupt]
    total, done = sum(entry.size for entry in entries), 0
    for entry in entries:
        try:
            cache.verify(entry)
        except Corrupt as error:
            faults.append(Fault("content", error.message))
        except FileNotFoundError:
            continue  # collected meanwhile
        done += entry.size
        progress(done, total)
    return faults


def _check_records(store: Store) -> list[Fault]:
    blobs = {name.decode() for name in store.content.cache.names(b"packages", NAME)}
    faults = []
    for hold in sorted(store.records.held()):
        if hold.startswith(HOLD):
            driver, _, name = hold.removeprefix(HOLD).partition("/")
            with store.ledger.read() as db:
                there = rows.exists(db, driver, name)
        else:
            there = hold.removeprefix("sha256:") in blobs
        if not there:
            holders = ", ".join(record.name for record in store.records.holders(hold))
            faults.append(Fault("records", f"{hold} is missing, which {holders} needs"))
    return faults
