"""The label MAX_SIZE: how much a snapshot may take (a hint of containerd 2.4, from its snapshotter's configuration)."""

from typing import Final

from layerfs.errors import InvalidArgument
from layerfs.snapshots.driver import Snapshot, SnapshotKind
from layerfs.sys import quota

MAX_SIZE: Final = "containerd.io/snapshot/max-size"  # bytes


def size_of(snapshot: Snapshot) -> int:
    """Return how much an active snapshot may take [bytes], 0 for no limit. Raises InvalidArgument for no number."""
    text = snapshot.labels.get(MAX_SIZE, "")
    if not text or snapshot.kind is not SnapshotKind.ACTIVE:
        return 0
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:20]) < 2**63:
        raise InvalidArgument(f'label {MAX_SIZE}: "{text[:64]}" is no number of bytes', "such as 1073741824")
    return int(text)


def bound(snapshot: Snapshot) -> None:
    """Limit what a snapshot's directory, empty yet, may take, if that is asked for and its filesystem can.

    Without project quotas the label changes nothing: it is a hint, and a snapshot without a limit is what every other
    snapshotter gives.
    """
    if size := size_of(snapshot):
        quota.limit(snapshot.directory, size, snapshot.id)
