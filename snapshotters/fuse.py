"""Snapshots as layers of layerfs's own union, served by FUSE: for users without root, and for owners that are mapped.

    ID/fs      what the snapshot changes of its parents
    ID/work    the union's scratch while the snapshot is active
    ID/empty   the lowest layer of a snapshot without parents, where a bind mount will not do

The mount is one of type `fuse3.layerfs-mount`: whoever mounts calls that program, and the server is theirs, so it
outlives the store's processes. Who unpacks a layer writes into `fs`, never through FUSE.

Owners are mapped by the union (labels UIDS and GIDS; options `uidmapping`, `gidmapping`), both ways: on disk every
layer has the container's own ids. Without root, owners and modes are kept in user.containers.override_stat.
"""

import os

from layerfs.errors import Unsupported
from layerfs.model import Mount
from layerfs.snapshots import quotas
from layerfs.snapshots.driver import Capability, Form, LayerPlace, Nesting, Snapshot, SnapshotKind, Usage, usage_of
from layerfs.snapshots.idmaps import maps_of
from layerfs.snapshots.rebase import is_alone, upper_only
from layerfs.snapshots.root import make_root
from layerfs.spec.attach import AttachOptions
from layerfs.spec.options import MountOptions
from layerfs.spec.overlay import bind_mount, parse_mount_options
from layerfs.spec.printing import print_options
from layerfs.sys import quota
from layerfs.sys.idmap import IdRun
from layerfs.sys.mounts import MountFlag
from layerfs.sys.probe import PROBES
from layerfs.union.options import IdRange, OverrideStat, UnionOptions

TYPE = "fuse3.layerfs-mount"
FS = b"/fs"
WORK = b"/work"
EMPTY = b"/empty"


class FuseDriver:
    """The driver `fuse`."""

    capabilities = frozenset({Capability.REBASE, Capability.REMAP_IDS})

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._privileged = os.geteuid() == 0

    def check(self) -> None:
        """Open /dev/fuse, and look for fusermount3 where this user cannot mount without it."""
        needed = ("/dev/fuse",) if self._privileged else ("/dev/fuse", "fusermount3, setuid")
        for probe in PROBES:
            if probe.name in needed:
                found = probe.run(self._root)
                if not found.present:
                    raise Unsupported(f"FUSE cannot be used: {found.name}: {found.detail}", found.remedy)

    def create(self, snapshot: Snapshot) -> None:
        """Make an empty layer."""
        quotas.bound(snapshot)
        make_root(snapshot.directory + FS, snapshot.parents[0] + FS if snapshot.parents else None)
        if self._needs_union(snapshot) and not snapshot.parents:
            os.mkdir(snapshot.directory + EMPTY, 0o755)
        if snapshot.kind is SnapshotKind.ACTIVE:
            os.mkdir(snapshot.directory + WORK, 0o700)

    def mounts(self, snapshot: Snapshot) -> tuple[Mount, ...]:
        """Return one mount: a bind mount of the only layer where that shows the same, else a union."""
        writable = snapshot.kind is SnapshotKind.ACTIVE
        if is_alone(snapshot):
            return (upper_only(snapshot.directory + FS, snapshot.directory + WORK),)
        if not self._needs_union(snapshot):
            return (bind_mount(snapshot.directory + FS, read_only=not writable),)
        lowers = tuple(parent + FS for parent in snapshot.parents) or (snapshot.directory + EMPTY,)
        if not writable and not snapshot.parents:
            lowers = (snapshot.directory + FS, *lowers)
        options = MountOptions(
            lowers=lowers,
            upper=snapshot.directory + FS if writable else None,
            work=snapshot.directory + WORK if writable else None,
            union=self._union(snapshot),
            attach=AttachOptions() if writable else AttachOptions(MountFlag.RDONLY),
        )
        return (Mount(TYPE, "layerfs", parse_mount_options(os.fsdecode(print_options(options)))),)

    def layer(self, directory: bytes) -> LayerPlace:
        """Return the directory of changes."""
        return LayerPlace(directory + FS, Form.CHANGES, nesting=Nesting.UNION)

    def seal(self, snapshot: Snapshot) -> None:
        """Do nothing: what is committed is not written to, since no mounts of it are given."""

    def usage(self, snapshot: Snapshot) -> Usage:
        """Count the layer."""
        return usage_of(snapshot.directory + FS)

    def discard(self, directory: bytes) -> None:
        """Let go of a quota; else there are but files and directories."""
        quota.forget(directory)

    def _needs_union(self, snapshot: Snapshot) -> bool:
        """Tell whether more is to be shown than one directory as it is; only root may show that by a bind mount."""
        return bool(snapshot.parents) or not self._privileged or maps_of(snapshot.labels) is not None

    def _union(self, snapshot: Snapshot) -> UnionOptions:
        maps = maps_of(snapshot.labels)
        return UnionOptions(
            uid_map=_ranges(maps.uids) if maps else (),
            gid_map=_ranges(maps.gids) if maps else (),
            override_stat=OverrideStat.OFF if self._privileged else OverrideStat.CONTAINERS,
        )


def _ranges(runs: tuple[IdRun, ...]) -> tuple[IdRange, ...]:
    return tuple(IdRange(inside=run.shown, outside=run.disk, count=run.count) for run in runs)
