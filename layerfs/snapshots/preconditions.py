"""What must hold before a snapshot is made or committed, and the errors that say what does not.

They are asked before the work, so that nothing is done in vain, and again in the transaction that changes the ledger:
other processes may have changed it in between. `driver` is the name of the driver whose snapshots are meant.
"""

from collections.abc import Set

from layerfs.errors import AlreadyExists, InvalidArgument, LayerfsError, NotFound, NotReady
from layerfs.snapshots.driver import Capability, SnapshotKind
from layerfs.snapshots.validate import checked_key
from layerfs.store import rows
from layerfs.store.info import Info
from layerfs.store.ledger import Transaction
from layerfs.store.rows import Row


def absent(key: str) -> NotFound:
    """Return the error for a key that no snapshot has."""
    return NotFound(f"there is no snapshot {key}", "`layerfs snapshot ls` shows what there is")


def require(db: Transaction, driver: str, key: str) -> Row:
    """Return the snapshot of a key. Raises NotFound, InvalidArgument."""
    row = rows.find(db, driver, checked_key(key))
    if row is None:
        raise absent(key)
    return row


def to_make(db: Transaction, driver: str, info: Info) -> int:
    """Return the id of the parent of a new snapshot, 0 for none. Raises NotFound, InvalidArgument, AlreadyExists."""
    base = _parent(db, driver, info.parent, InvalidArgument)
    if rows.exists(db, driver, info.name):
        raise AlreadyExists(f"snapshot {info.name} exists", "remove it, or take another key")
    return base


def demand_same_parent(db: Transaction, driver: str, info: Info, base: int) -> None:
    """Raise if a snapshot cannot be made on the parent with the id `base` any more: NotFound, AlreadyExists."""
    if to_make(db, driver, info) != base:
        raise NotFound(f"parent {info.parent} was removed and made again meanwhile")


def to_commit(db: Transaction, driver: str, info: Info, key: str, capabilities: Set[Capability]) -> tuple[Row, int]:
    """Return the active snapshot that becomes `info`, and the id of its parent then; a new parent needs REBASE.

    Raises NotFound, AlreadyExists, NotReady, InvalidArgument.
    """
    row = require(db, driver, key)
    if rows.exists(db, driver, info.name):
        raise AlreadyExists(f"snapshot {info.name} exists", "remove it, or take another name")
    if row.kind is not SnapshotKind.ACTIVE:
        raise NotReady(f"snapshot {key} is not active, but {row.kind.word}", "only active ones are committed")
    if not info.parent or info.parent == row.info.parent:
        return row, row.parent
    if row.parent:
        raise InvalidArgument(f"snapshot {key} has a parent already: {row.info.parent}")
    if Capability.REBASE not in capabilities:
        raise InvalidArgument(f"the snapshots of {driver} keep the parent that they were prepared with")
    return row, _parent(db, driver, info.parent, NotReady)


def _parent(db: Transaction, driver: str, name: str, uncommitted: type[LayerfsError]) -> int:
    """Return the id of a committed snapshot; 0 for no name. Raises NotFound, or `uncommitted`."""
    if not name:
        return 0
    row = rows.find(db, driver, name)
    if row is None:
        raise NotFound(f"there is no parent {name}", "`layerfs snapshot ls` shows what there is")
    if row.kind is not SnapshotKind.COMMITTED:
        raise uncommitted(f"parent {name} is not committed, but {row.kind.word}", "commit it first")
    return row.id
