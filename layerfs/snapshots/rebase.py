"""Layers that are unpacked alone and put on top of their parents at commit (containerd 2.2, capability `rebase`).

A bind mount would lose the whiteouts and opaque directories of such a layer. containerd unpacks into the `upperdir` of
an overlay without mounting it, and writes there the marks that overlays have; so that is the mount, though it names no
lower and nobody could mount it.
"""

import os

from layerfs.model import Mount
from layerfs.snapshots.driver import PARENT_CHAIN, Snapshot, SnapshotKind
from layerfs.spec.overlay import OVERLAY
from layerfs.sys.overlay import escape


def is_alone(snapshot: Snapshot) -> bool:
    """Tell whether a snapshot without a parent is to get one at commit."""
    return snapshot.kind is SnapshotKind.ACTIVE and not snapshot.parents and PARENT_CHAIN in snapshot.labels


def upper_only(upper: bytes, work: bytes) -> Mount:
    """Return an overlay that is unpacked into and not mounted."""
    places = (b"workdir=" + escape(work), b"upperdir=" + escape(upper))
    return Mount(OVERLAY, OVERLAY, tuple(map(os.fsdecode, places)))
