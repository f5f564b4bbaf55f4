"""Remote snapshots: a layer that the store has already is neither downloaded nor unpacked again.

containerd asks for a layer by `Prepare` with the label `containerd.io/snapshot.ref`, the ChainID. Where the store
holds it, under whatever name (an image that was imported, another namespace's pull), it is committed for this parent
too, sharing the bytes, and the answer is ALREADY_EXISTS; containerd then finds the snapshot by its label.
"""

from collections.abc import Mapping
from typing import Final

from layerfs.errors import AlreadyExists
from layerfs.model import Mount
from layerfs.snapshots.snapshotter import Snapshotter

REF: Final = "containerd.io/snapshot.ref"


def prepare_or_adopt(
    snapshotter: Snapshotter, key: str, parent: str, labels: Mapping[str, str]
) -> tuple[Mount, ...]:
    """Prepare a snapshot. Raises AlreadyExists where the layer is there, and whatever `Snapshotter.prepare` raises."""
    ref = labels.get(REF, "")
    if ref and snapshotter.adopt(f"{key} {ref}", ref, parent, labels):
        raise AlreadyExists(f"the layer {ref} is there", "find it by its label")
    return snapshotter.prepare(key, parent, labels)
