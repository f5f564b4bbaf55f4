"""Snapshots as subvolumes of btrfs: each is a whole tree that shares its data with its parent's.

    ID/fs     a subvolume: a writable copy of the parent's, a read-only one for a view; read-only once committed

The store must be on btrfs, and root has it: only root may count and destroy what strangers put into subvolumes. What a
snapshot takes is what it shares with no other at its commit. The label MAX_SIZE bounds that, by a quota.
"""

import os

from layerfs.errors import Unsupported
from layerfs.model import Mount
from layerfs.snapshots.driver import Capability, Form, LayerPlace, Snapshot, SnapshotKind, Usage
from layerfs.snapshots.idmaps import maps_of
from layerfs.snapshots.quotas import size_of
from layerfs.spec.overlay import bind_mount
from layerfs.sys import btrfs

FS = b"fs"
_TRIED = b"try-%d-%s"


class BtrfsDriver:
    """The driver `btrfs`."""

    capabilities = frozenset({Capability.REMAP_IDS})

    def __init__(self, root: bytes) -> None:
        self._root = root

    def check(self) -> None:
        """Make a subvolume and destroy it."""
        where = os.fsdecode(self._root)
        if not btrfs.is_btrfs(self._root):
            raise Unsupported(f"{where} is not on btrfs", "give --root a directory on btrfs; a mounted file will do")
        name = _TRIED % (os.getpid(), os.urandom(4).hex().encode())
        try:
            btrfs.create(self._root, name)
            btrfs.destroy(os.path.join(self._root, name))
        except PermissionError as error:
            said = "this user may not destroy subvolumes of btrfs"
            raise Unsupported(said, "be root, or use overlay or fuse") from error

    def create(self, snapshot: Snapshot) -> None:
        """Copy the parent's subvolume, or make an empty one."""
        maps_of(snapshot.labels)
        size = size_of(snapshot)
        if snapshot.parents:
            source = os.path.join(snapshot.parents[0], FS)
            btrfs.snapshot(source, snapshot.directory, FS, read_only=snapshot.kind is SnapshotKind.VIEW)
        else:
            btrfs.create(snapshot.directory, FS)
            os.chmod(os.path.join(snapshot.directory, FS), 0o755)
        if size:
            btrfs.limit(os.path.join(snapshot.directory, FS), size)

    def mounts(self, snapshot: Snapshot) -> tuple[Mount, ...]:
        """Return a bind mount of the subvolume, shifted where labels ask for it."""
        bound = bind_mount(os.path.join(snapshot.directory, FS), read_only=snapshot.kind is SnapshotKind.VIEW)
        maps = maps_of(snapshot.labels)
        shift = () if maps is None else (f"uidmap={maps.uid_text}", f"gidmap={maps.gid_text}")
        return (Mount(bound.type, bound.source, (*shift, *bound.options)),)

    def layer(self, directory: bytes) -> LayerPlace:
        """Return the subvolume."""
        return LayerPlace(os.path.join(directory, FS), Form.WHOLE)

    def seal(self, snapshot: Snapshot) -> None:
        """Make the subvolume read-only."""
        btrfs.set_read_only(os.path.join(snapshot.directory, FS), True)

    def usage(self, snapshot: Snapshot) -> Usage:
        """Count what the subvolume shares with no other, as far as it is on disk."""
        return Usage(*btrfs.own(os.path.join(snapshot.directory, FS)))

    def discard(self, directory: bytes) -> None:
        """Destroy the subvolume with all that were made in it."""
        btrfs.destroy(os.path.join(directory, FS))
