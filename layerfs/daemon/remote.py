"""Layers that are there already are neither downloaded nor unpacked again.

containerd asks for a layer by `Prepare` with the label `containerd.io/snapshot.ref`, the ChainID. Where the store
holds it, under whatever name (an image that was imported, another namespace's pull), or a package cache does, there are
two answers:

    ALREADY_EXISTS      it is committed for this parent too, sharing the bytes; containerd finds it by its label
                        ("remote snapshots")
    read-only mounts    where containerd 2 prepares all layers of an image without their parents: it downloads nothing,
                        applies nothing, and commits on top of the parent ("staged layers")
"""

import logging
from collections.abc import Mapping

from layerfs.errors import AlreadyExists, LayerfsError, NotFound
from layerfs.model import Mount
from layerfs.oci import cached
from layerfs.snapshots.driver import PARENT_CHAIN, Capability
from layerfs.snapshots.leftovers import LOCAL
from layerfs.snapshots.sharing import REF
from layerfs.snapshots.snapshotter import Snapshotter
from layerfs.store.info import Info

_log = logging.getLogger("layerfs.daemon")


def prepare_or_adopt(snapshotter: Snapshotter, key: str, parent: str, labels: Mapping[str, str]) -> tuple[Mount, ...]:
    """Prepare a snapshot. Raises AlreadyExists where the layer is there, and whatever `Snapshotter.prepare` raises."""
    ref = labels.get(REF, "")
    if not ref:
        return snapshotter.prepare(key, parent, labels)
    if not parent and PARENT_CHAIN in labels:
        return _staged(snapshotter, key, ref, labels) or snapshotter.prepare(key, parent, labels)
    name = f"{key} {ref}"
    if snapshotter.adopt(name, ref, parent, labels) or _from_cache(snapshotter, name, ref, parent, labels):
        raise AlreadyExists(f"the layer {ref} is there", "find it by its label")
    return snapshotter.prepare(key, parent, labels)


def _staged(snapshotter: Snapshotter, key: str, ref: str, labels: Mapping[str, str]) -> tuple[Mount, ...]:
    """Return read-only mounts of a layer that is there; none if it is not."""
    if mounts := snapshotter.stage(key, labels):
        return mounts
    name = f"{key} {ref}"
    if Capability.REBASE not in snapshotter.capabilities or not _from_cache(snapshotter, name, ref, "", labels):
        return ()
    try:
        return snapshotter.stage(key, labels)
    finally:
        snapshotter.remove(name)


def _from_cache(snapshotter: Snapshotter, name: str, ref: str, parent: str, labels: Mapping[str, str]) -> bool:
    """Commit a layer that a package cache holds, and tell whether one does; what is wrong with it is logged."""
    making = f"{name} from the cache"
    try:
        with cached.found(ref) as package:
            if not package:
                return False
            snapshotter.prepare(making, parent, labels)
            try:
                cached.unpack(package, snapshotter, making)
                snapshotter.commit(name, making, labels)
            except BaseException:
                snapshotter.remove(making)
                raise
    except (AlreadyExists, NotFound):  # what the client asked for cannot be
        raise
    except (LayerfsError, OSError) as error:
        _log.warning("the layer %s is not taken from the package cache: %s", ref, error)
        return False
    return True


def is_hidden(info: Info) -> bool:
    """Tell whether our own command line made a snapshot: for itself, or for an image of the store.

    containerd's collector removes all that is listed to it and that it did not make; its own keys are
    NAMESPACE/NUMBER/KEY. So these are not listed. Layers of images stand under their ChainID, or are being unpacked.
    """
    if LOCAL in info.labels:
        return True
    ref = info.labels.get(REF, "")
    return bool(ref) and "/" not in info.name and (info.name == ref or info.name.endswith(f" {ref}"))
