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
from layerfs.store.info import Info

REF: Final = "containerd.io/snapshot.ref"


def prepare_or_adopt(snapshotter: Snapshotter, key: str, parent: str, labels: Mapping[str, str]) -> tuple[Mount, ...]:
    """Prepare a snapshot. Raises AlreadyExists where the layer is there, and whatever `Snapshotter.prepare` raises."""
    ref = labels.get(REF, "")
    if ref and snapshotter.adopt(f"{key} {ref}", ref, parent, labels):
        raise AlreadyExists(f"the layer {ref} is there", "find it by its label")
    return snapshotter.prepare(key, parent, labels)


def is_of_an_image(info: Info) -> bool:
    """Tell whether `layerfs image` made a snapshot: a layer under its ChainID, or one that it is unpacking.

    containerd's collector removes all that is listed to it and that it did not make; its own keys are
    NAMESPACE/NUMBER/KEY. So these are not listed: they belong to the store's images, and go with them.
    """
    ref = info.labels.get(REF, "")
    return bool(ref) and "/" not in info.name and (info.name == ref or info.name.endswith(f" {ref}"))
