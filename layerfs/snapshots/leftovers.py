"""Snapshots that layerfs itself unpacks for an image, and their removal if no image was recorded.

They carry a label of ours. Whoever unpacks holds a lock, shared, until a record holds the snapshots; with nobody there
those that no record holds are of processes that were killed, or had children when their image was removed.
What a client has made never goes: it has not the label.
"""

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from typing import Final

from layerfs.errors import LayerfsError
from layerfs.snapshots.driver import LOCAL as LOCAL
from layerfs.snapshots.library import Store
from layerfs.snapshots.sharing import REF
from layerfs.snapshots.snapshotter import Snapshotter
from layerfs.store.info import Info, SnapshotKind
from layerfs.sys.locks import held_alone, held_by_many

UNPACKED: Final = "layerfs.image.unpacked"
HOLD: Final = "snapshot:"
_LOCK: Final = b"unpacking.lock"


def labels_of(name: str) -> dict[str, str]:
    """Return the labels of a snapshot that is unpacked under a ChainID."""
    return {REF: name, UNPACKED: "1"}


def unpacking(store: Store) -> AbstractContextManager[None]:
    """Hold the shared lock, so that snapshots unpacked in the block are not removed as leftovers."""
    return held_by_many(os.path.join(store.root, _LOCK))


def nobody_unpacking(store: Store) -> AbstractContextManager[bool]:
    """Tell whether no process unpacks, and keep it so during the block: one that does may rely on what is there."""
    return held_alone(os.path.join(store.root, _LOCK))


def clear(store: Store, snapshotters: Iterable[Snapshotter]) -> None:
    """Remove unpacked snapshots that no record holds; does nothing while a process unpacks."""
    with nobody_unpacking(store) as alone:
        held = store.records.held()
        for snapshotter in snapshotters if alone else ():
            prefix = f"{HOLD}{snapshotter.name}/"
            found = [info for info in snapshotter.walk(f'labels."{UNPACKED}"==1') if is_unpacked(info)]
            for info in sorted(found, key=lambda info: info.created, reverse=True):  # children before their parents
                if prefix + info.name not in held:
                    with suppress(LayerfsError):  # somebody's snapshot stands on it
                        snapshotter.remove(info.name)


def is_unpacked(info: Info) -> bool:
    """Tell whether layerfs unpacked a snapshot: it has our label, and the name that goes with it."""
    if UNPACKED not in info.labels:
        return False
    name = info.labels.get(REF, "")
    return info.name == name if info.kind is SnapshotKind.COMMITTED else info.name.endswith(f" {name}")
