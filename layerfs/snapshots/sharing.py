"""Snapshots that share the directory of an existing one: their layers are neither fetched nor unpacked again.

    adopt   adds a committed snapshot that shares the content of another
    stage   adds an active snapshot that holds its content already: its mounts are read-only, nobody may fill it, and
            its commit changes the ledger alone

A ChainID names the content of a layer on top of certain others, so its layer can be shared wherever that ChainID is
wanted. A DiffID names a tar, and what a tar becomes may depend on the layers below (links into them, directories that
it does not mention). So a layer is shared by its DiffID only if it was unpacked without regard to any other, which is
so where it was prepared without a parent and put on top of one at its commit (layerfs.snapshots.rebase).
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from layerfs.model import Mount
from layerfs.snapshots.driver import NOTHING, PARENT_CHAIN, Capability, SnapshotKind
from layerfs.snapshots.preconditions import to_make
from layerfs.snapshots.validate import checked_key, checked_labels
from layerfs.store import rows
from layerfs.store.info import Info
from layerfs.store.ledger import Transaction
from layerfs.store.rows import Row

if TYPE_CHECKING:
    from layerfs.snapshots.snapshotter import Snapshotter

REF: Final = "containerd.io/snapshot.ref"  # the ChainID
DIFF_ID: Final = "containerd.io/snapshot/diff-id"
ALONE: Final = "layerfs.snapshot.alone"  # the DiffID of a layer that was unpacked without regard to others


def adopt(snapshotter: "Snapshotter", name: str, ref: str, parent: str, labels: Mapping[str, str] = NOTHING) -> bool:
    """Add a committed snapshot that shares the content of an existing one; False if there is none to share.

    That is one whose label REF is `ref`, or whose name ends in it (all of it, or behind a slash), and which stands on
    the same content as `parent`; or one that has the label DIFF_ID's layer and was unpacked alone. Raises NotFound,
    AlreadyExists, InvalidArgument, as `Snapshotter.prepare`.
    """
    now = time.time_ns()
    info = Info(checked_key(name), SnapshotKind.COMMITTED, parent, checked_labels(labels), now, now)
    number = snapshotter.ledger.take_id()

    def share(db: Transaction) -> bool:
        base = to_make(db, snapshotter.name, info)
        below = rows.place_of(db, base)
        found = rows.alike(db, snapshotter.name, ref, REF, below) or (_alone(db, snapshotter, labels) if base else None)
        if found is not None:
            rows.share(db, snapshotter.name, number, info, base, found.place, found.usage)
        return found is not None

    is_there = snapshotter.change(share)
    if is_there:
        snapshotter.ledger.sync()
    return is_there


def stage(snapshotter: "Snapshotter", key: str, labels: Mapping[str, str]) -> tuple[Mount, ...]:
    """Add an active snapshot that shares the layer its labels name, and return its mounts; none if it is not there.

    Only for a layer that will be put on top of its parent at its commit. Raises AlreadyExists.
    """
    if Capability.REBASE not in snapshotter.capabilities or PARENT_CHAIN not in labels:
        return ()
    now = time.time_ns()
    info = Info(checked_key(key), SnapshotKind.ACTIVE, "", checked_labels(labels), now, now)
    number = snapshotter.ledger.take_id()

    def share(db: Transaction) -> bool:
        to_make(db, snapshotter.name, info)
        ref = labels.get(REF, "")
        alike = rows.alike(db, snapshotter.name, ref, REF) if ref else None
        found = alike or _alone(db, snapshotter, labels)
        if found is not None:
            rows.share(db, snapshotter.name, number, info, 0, found.place, found.usage)
        return found is not None

    return snapshotter.mounts(key) if snapshotter.change(share) else ()


def labels_alone(before: Mapping[str, str]) -> dict[str, str]:
    """Return the labels to note on a layer that was prepared with these labels alone and gets its parent now."""
    return {ALONE: before[DIFF_ID]} if PARENT_CHAIN in before and DIFF_ID in before else {}


def _alone(db: Transaction, snapshotter: "Snapshotter", labels: Mapping[str, str]) -> Row | None:
    """Return a snapshot with the layer of a DiffID that was unpacked alone."""
    diff_id = labels.get(DIFF_ID, "")
    return rows.labelled(db, snapshotter.name, ALONE, diff_id) if diff_id else None
