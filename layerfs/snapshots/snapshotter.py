"""The lifecycle of the snapshots of one driver, with containerd's semantics (core/snapshots, "Snapshotter").

    prepare KEY [PARENT] --> ACTIVE --commit NAME--> COMMITTED --> parent of others
    view KEY [PARENT] -----> VIEW
    remove: any of them that has no children

The keys of active snapshots and views and the names of committed ones share one key space for each driver. They are
opaque: any text, never a path.

The order of steps. A process that is killed between two of them leaves the state before the operation or the one after:

    prepare   lock and make a directory; the driver creates in it; rename it to its place | begin; insert; end | unlock
    commit    sync the filesystem; the driver counts | begin; change the row; end | sync the ledger; seal (noted later)
    remove    begin; delete the row; rename the directory into the trash; end
    cleanup   sync the ledger; the driver discards; remove the directory

The steps before a | change nothing that others see. Between begin and end this process alone writes to the ledger, and
nothing takes long. What must hold before a step is in preconditions.py. recovery.py finishes or takes back what was
interrupted.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from layerfs.errors import FULL, LayerfsError, NotFound, NotReady
from layerfs.model import Mount, Stack
from layerfs.snapshots import counting, preconditions, sharing
from layerfs.snapshots.driver import NOTHING, Capability, Form, LayerPlace, Snapshot, SnapshotDriver, SnapshotKind
from layerfs.snapshots.sharing import labels_alone
from layerfs.snapshots.validate import checked_key, checked_labels, updated_labels
from layerfs.store import rows
from layerfs.store.info import UNCOUNTED, Info, Usage
from layerfs.store.ledger import Ledger, Transaction
from layerfs.store.places import Places
from layerfs.store.rows import Row
from layerfs.store.turns import in_turn, in_turn_to_read
from layerfs.sys.sync import sync_filesystem
from layerfs.value import replace

if TYPE_CHECKING:
    from layerfs.snapshots.filters import Filter

T = TypeVar("T")


class Snapshotter:
    """The snapshots of one driver in one store; every method may be called from any thread.

    Raises, besides OSError of the disk: NotFound (no such key, no such parent), AlreadyExists (key or name taken),
    InvalidArgument (the parent is not committed; a field that cannot be changed; a bad filter), NotReady (mounts of a
    committed snapshot, commit of what is not active, removal of what has children), Unsupported (the host lacks it).
    """

    def __init__(self, name: str, driver: SnapshotDriver, ledger: Ledger, places: Places) -> None:
        self.name, self.driver, self.ledger, self.places = name, driver, ledger, places
        self.steps = ledger.steps
        self._sealed: set[int] = set()  # not noted in the ledger yet, which would take as long as all the rest

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this driver can do beyond what all can."""
        return self.driver.capabilities

    def prepare(self, key: str, parent: str = "", labels: Mapping[str, str] = NOTHING) -> tuple[Mount, ...]:
        """Make an active snapshot on top of a committed one, or of nothing, and return its mounts."""
        return self._make(SnapshotKind.ACTIVE, key, parent, labels)

    def view(self, key: str, parent: str = "", labels: Mapping[str, str] = NOTHING) -> tuple[Mount, ...]:
        """Make a read-only view of a committed snapshot, and return its mounts."""
        return self._make(SnapshotKind.VIEW, key, parent, labels)

    @in_turn_to_read
    def mounts(self, key: str) -> tuple[Mount, ...]:
        """Return the mounts of an active snapshot or a view."""
        snapshot = self._snapshot(key)
        if snapshot.kind is SnapshotKind.COMMITTED:
            raise NotReady(f"snapshot {key} is committed, and has no mounts", "prepare or view one on top of it")
        return self._mounts(snapshot)

    @in_turn
    def commit(
        self, name: str, key: str, labels: Mapping[str, str] = NOTHING, *, parent: str = "", volatile: bool = False
    ) -> None:
        """Make an active snapshot a committed one of another name; its labels are replaced.

        Its content is on disk before it counts as committed; `volatile` leaves that to the caller. `parent` puts a
        snapshot that was prepared without a parent on top of one (containerd's "rebase").
        """
        info = Info(checked_key(name), SnapshotKind.COMMITTED, parent, checked_labels(labels))
        with self.ledger.look() as db:
            row, _ = preconditions.to_commit(db, self.name, info, key, self.capabilities)
            snapshot = self.seen(db, row)
        usage = row.usage if row.is_staged else UNCOUNTED if volatile else self._settled(key, row, snapshot)
        with self.places.working():
            base = self.change(lambda db: self._commit(db, info, key, row, usage))
            if not volatile:
                self.ledger.sync()
            if not row.is_staged:
                now = replace(snapshot, kind=SnapshotKind.COMMITTED, labels=info.labels)
                self.seal(row.id, now if base == row.parent else None)

    def _commit(self, db: Transaction, info: Info, key: str, row: Row, usage: Usage) -> int:
        """Make the row a committed one, and return its parent's id. Raises NotFound if the key has another row now."""
        again, base = preconditions.to_commit(db, self.name, info, key, self.capabilities)
        if again.id != row.id:
            raise NotFound(f"snapshot {key} was removed and made again meanwhile")
        now = time.time_ns()
        alone = base != row.parent and not row.is_staged
        labels = {**info.labels, **labels_alone(row.info.labels)} if alone else info.labels
        rows.commit(db, row.id, replace(info, labels=labels, created=now, updated=now), base, usage)
        if row.is_staged:
            rows.seal(db, [row.id])
        return base

    def _settled(self, key: str, row: Row, snapshot: Snapshot) -> Usage:
        """Write the content of a snapshot to disk, and return its usage."""
        self.steps.leave()
        with self.while_there(key, row.id):
            sync_filesystem(snapshot.directory)
            return self.driver.usage(snapshot)

    def adopt(self, name: str, ref: str, parent: str = "", labels: Mapping[str, str] = NOTHING) -> bool:
        """Add a committed snapshot that shares an existing one's content; False if the store has no such content.

        sharing.py says which content that is. Raises NotFound, AlreadyExists, InvalidArgument, as `prepare`.
        """
        return sharing.adopt(self, name, ref, parent, labels)

    def stage(self, key: str, labels: Mapping[str, str]) -> tuple[Mount, ...]:
        """Add an active snapshot that has its layer already, and return its mounts; none if the layer is not there."""
        return sharing.stage(self, key, labels)

    @in_turn
    def remove(self, key: str) -> None:
        """Remove a snapshot that has no children. `cleanup` gives its space back."""
        try:
            self._remove(key)
        except OSError as error:  # on a full filesystem the trash may have no room for one more name
            if error.errno not in FULL or not self.cleanup():
                raise
            self._remove(key)

    def _remove(self, key: str) -> None:
        moved: list[int] = []

        def delete(db: Transaction) -> None:
            number, place = rows.locate(db, self.name, checked_key(key)) or (0, 0)
            if not number:
                raise preconditions.absent(key)
            if rows.has_children(db, number):
                raise NotReady(f"snapshot {key} has children", "remove them first")
            rows.delete(db, number)
            if not rows.is_used(db, place):
                moved.append(place)
                self.places.set_aside(place)

        try:
            self.change(delete)
        except BaseException:
            with self.ledger.look() as db:
                for place in filter(lambda place: rows.is_used(db, place), moved):
                    self.places.restore(place)
            raise

    @in_turn_to_read
    def stat(self, key: str) -> Info:
        """Return a snapshot's kind, parent, labels and times."""
        with self.ledger.look() as db:
            return preconditions.require(db, self.name, key).info

    @in_turn
    def update(self, info: Info, *fields: str) -> Info:
        """Replace all labels, or those that `labels.NAME` fields name, and return the snapshot's new state."""

        def relabel(db: Transaction) -> Info:
            row = preconditions.require(db, self.name, info.name)
            labels = checked_labels(updated_labels(row.info.labels, info.labels, fields))
            rows.replace_labels(db, row.id, labels)
            now = time.time_ns()
            rows.touch(db, row.id, now)
            return replace(row.info, labels=labels, updated=now)

        return self.change(relabel)

    def walk(self, *texts: str) -> Iterator[Info]:
        """Yield the snapshots that match one of the filters (containerd's language), by name; without filters all.

        The answer is the state at the time of the first `next`. Raises InvalidArgument at once for a bad filter.
        """
        from layerfs.snapshots.filters import parse_all

        return self._walk(parse_all(texts))

    def _walk(self, wanted: "Filter") -> Iterator[Info]:
        with self.ledger.read() as db:
            for row in rows.walk(db, self.name, wanted.where()):
                if wanted.matches(row.info):
                    yield row.info

    def usage(self, key: str) -> Usage:
        """Return the space of a snapshot without its parents: now, or at its commit."""
        return counting.usage(self, key)

    def cleanup(self) -> int:
        """Delete the content of removed snapshots, finish what was interrupted, and return how many were deleted."""
        from layerfs.snapshots.recovery import recover, removed

        self.flush()
        recover(self)
        failures: list[Exception] = []
        with self.places.sweeping():
            numbers = removed(self)
            if numbers:
                self.ledger.sync()  # a power cut would bring back rows whose content is gone
            for number in numbers:
                try:
                    with self.places.working():
                        self.driver.discard(self.places.trashed(number))
                        self.places.erase(number)
                except (OSError, LayerfsError) as error:
                    failures.append(error)
        if failures:  # the others are gone nevertheless
            raise failures[0]
        return len(numbers)

    def layer(self, key: str) -> LayerPlace:
        """Return where a snapshot's own content is, for reading it without a mount."""
        return self.driver.layer(self._snapshot(key).directory)

    def writable_layer(self, key: str) -> LayerPlace:
        """Return where an active snapshot's own content is, for writing it without a mount. Raises NotReady."""
        with self.ledger.read() as db:
            row = preconditions.require(db, self.name, key)
        if row.kind is not SnapshotKind.ACTIVE or row.is_staged:
            raise NotReady(f"snapshot {key} is not active, or holds its layer already", "prepare one on top of it")
        return self.driver.layer(self.places.place(row.place))

    def stack(self, key: str) -> Stack:
        """Return the layers of a snapshot as a read-only stack, its own on top."""
        snapshot = self._snapshot(key)
        own = self.driver.layer(snapshot.directory)
        if own.form is Form.WHOLE:
            return Stack((own.path,))
        mine = [] if snapshot.kind is SnapshotKind.VIEW and snapshot.parents else [own.path]
        return Stack((*mine, *(self.driver.layer(parent).path for parent in snapshot.parents)))

    def seal(self, number: int, snapshot: Snapshot | None = None) -> None:
        """Do the last step of a commit. A failure is logged, and the step is tried again when the store is opened.

        `snapshot` is the snapshot as its driver sees it; without it the ledger is asked.
        """
        try:
            if snapshot is None:
                with self.ledger.read() as db:
                    row = rows.by_id(db, number)
                    if row is None:  # removed meanwhile
                        return
                    snapshot = self.seen(db, row)
            self.steps.aside(self.driver.seal, snapshot)
            self._sealed.add(number)
        except (OSError, LayerfsError) as error:
            with self.ledger.look() as db:
                gone = rows.by_id(db, number) is None
            if not gone:
                import logging

                log = logging.getLogger(__name__)
                log.warning("snapshot %d of %s is committed, but not finished: %s", number, self.name, error)

    def flush(self) -> None:
        """Note in the ledger what was sealed: a snapshot without that note is sealed again when the store is opened."""
        if self._sealed:
            self.change(lambda db: None)

    def change(self, act: Callable[[Transaction], T]) -> T:
        """Change the ledger in one transaction, which also notes what was sealed."""
        sealed = list(self._sealed)

        def change(db: Transaction) -> T:
            if sealed:
                rows.seal(db, sealed)
            return act(db)

        done = self.ledger.change(change)
        self._sealed.difference_update(sealed)
        return done

    @in_turn
    def _make(self, kind: SnapshotKind, key: str, parent: str, labels: Mapping[str, str]) -> tuple[Mount, ...]:
        """Make a snapshot and return its mounts."""
        now = time.time_ns()
        info = Info(checked_key(key), kind, parent, checked_labels(labels), now, now)
        with self.ledger.look() as db:
            base = preconditions.to_make(db, self.name, info)
            parents = self._above(db, base)
        number = self._number()
        with self.places.making(number) as staged:
            try:
                self.steps.aside(self.driver.create, Snapshot(number, kind, staged, parents, info.labels))
            except Exception:  # perhaps because the parent was removed meanwhile: then that is the error
                self.change(lambda db: preconditions.demand_same_parent(db, self.name, info, base))
                raise
            self.places.publish(number)
            mounts = self._mounts(Snapshot(number, kind, self.places.place(number), parents, info.labels))
            self.change(lambda db: self._insert(db, number, info, base))
        return mounts

    def _insert(self, db: Transaction, number: int, info: Info, base: int) -> None:
        """Add a snapshot whose directory is in its place. Raises NotFound or AlreadyExists."""
        if not rows.insert(db, self.name, number, info, base):
            preconditions.demand_same_parent(db, self.name, info, base)
            raise LayerfsError(f"the ledger does not take snapshot {info.name}")

    def _mounts(self, snapshot: Snapshot) -> tuple[Mount, ...]:
        """Return the driver's mounts, having checked that they are mounts."""
        mounts = self.driver.mounts(snapshot)
        if not isinstance(mounts, tuple) or not mounts or not all(isinstance(mount, Mount) for mount in mounts):
            raise LayerfsError(f"the driver {self.name} returns no mounts, but {mounts!r}"[:200], "tell who wrote it")
        return mounts

    @contextmanager
    def while_there(self, key: str, number: int) -> Iterator[None]:
        """Turn an error into NotFound if the snapshot was removed meanwhile."""
        try:
            yield
        except Exception:
            if self.change(lambda db: preconditions.require(db, self.name, key)).id != number:
                raise NotFound(f"snapshot {key} was removed and made again meanwhile") from None
            raise

    def _snapshot(self, key: str) -> Snapshot:
        with self.ledger.look() as db:
            found = rows.trace(db, self.name, checked_key(key))
        if found is None:
            raise preconditions.absent(key)
        return self._shown(found[0], tuple(map(self.places.place, found[1])))

    def seen(self, db: Transaction, row: Row) -> Snapshot:
        """Return a snapshot as its driver sees it."""
        return self._shown(row, self._above(db, row.parent))

    def _shown(self, row: Row, parents: tuple[bytes, ...]) -> Snapshot:
        kind = SnapshotKind.VIEW if row.is_staged else row.kind  # a staged one shares its directory: nobody may write
        return Snapshot(row.place, kind, self.places.place(row.place), parents, row.info.labels)

    def _above(self, db: Transaction, number: int) -> tuple[bytes, ...]:
        """Return the directories of a snapshot and its parents; 0 has none."""
        return tuple(map(self.places.place, rows.chain(db, number) if number else ()))

    def _number(self) -> int:
        """Return a number without a directory, even one that the ledger has forgotten by a power cut."""
        return next(filter(self.places.is_free, iter(self.ledger.take_id, None)))
