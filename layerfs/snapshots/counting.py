"""The usage of snapshots: active ones are counted now, committed ones were counted at their commit.

A volatile commit waits for no disk, and some filesystems (btrfs) count only what is on it. So what such a snapshot
takes is counted when it is asked for first: its content is the same, and who asks waits for the disk.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

from layerfs.errors import NotFound
from layerfs.snapshots.preconditions import require
from layerfs.store import rows
from layerfs.store.info import UNCOUNTED, SnapshotKind, Usage
from layerfs.sys.sync import sync_filesystem

if TYPE_CHECKING:
    from layerfs.snapshots.snapshotter import Snapshotter


def usage(snapshotter: "Snapshotter", key: str) -> Usage:
    """Return what a snapshot itself takes. Raises NotFound."""
    with snapshotter.ledger.read() as db:
        row = require(db, snapshotter.name, key)
        is_active = row.kind is SnapshotKind.ACTIVE and not row.is_staged
        if not is_active and row.usage != UNCOUNTED:
            return row.usage
        snapshot = snapshotter.seen(db, row)
    with snapshotter.while_there(key, row.id):
        if not is_active:
            sync_filesystem(snapshot.directory)
        found = snapshotter.driver.usage(snapshot)
    if not is_active:
        snapshotter.change(lambda db: rows.count(db, row.place, found))
    return found


def count_all(snapshotter: "Snapshotter") -> None:
    """Count the committed snapshots that were not counted yet, except those that lost their directory."""
    with snapshotter.ledger.read() as db:
        keys = rows.uncounted(db, snapshotter.name)
    for key in keys:
        with suppress(NotFound, FileNotFoundError):  # removed meanwhile; or lost in a power cut, which `check` tells
            usage(snapshotter, key)
