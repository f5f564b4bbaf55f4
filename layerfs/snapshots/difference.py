"""What a snapshot changes of its parent, or of any other snapshot of the same driver."""

import os
import tempfile

from layerfs.lowers.changes import PathChange, compare
from layerfs.model import Stack
from layerfs.snapshots.driver import Form
from layerfs.snapshots.root import PLAIN
from layerfs.snapshots.snapshotter import Snapshotter


def difference(snapshots: Snapshotter, key: str, other: str | None = None) -> list[PathChange]:
    """Return the differences of a snapshot from another one (its parent, or nothing), sorted by path.

    What they hold is read, not mounted. Raises NotFound.
    """
    before = other or snapshots.stat(key).parent
    copies = snapshots.layer(key).form is Form.WHOLE
    if before:
        return compare(snapshots.stack(before), snapshots.stack(key), copies=copies)
    with tempfile.TemporaryDirectory(prefix="layerfs-empty-") as empty:
        os.chmod(empty, PLAIN)
        return compare(Stack((os.fsencode(empty),)), snapshots.stack(key), copies=copies)
