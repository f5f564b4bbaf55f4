"""Snapshots as XARs: a committed one becomes a squashfs image in a XAR, packed in the background by another process.

    ID/fs          what the snapshot changes of its parents, until it is packed and nobody uses the directory any more
    ID/work        scratch of whoever serves an active snapshot
    ID/layer.xar   the same packed, put there by one rename; what is in it is served from then on
    ID/empty       the lowest layer of a snapshot without parents, where a bind mount will not do

A chain of images and directories is mounted by layerfs-mount with `driver=auto`: by kernel overlayfs over loop mounts
where it may make them, else by our union. Who fills an active snapshot may put layer.xar there itself, and the snapshot
is then read-only. Images keep times to the second. A layer that they cannot hold otherwise (POSIX ACLs) stays a
directory.

    python -m snapshotters.xar ROOT     packs what waits below a driver's directory
"""

import os
import sys
from contextlib import suppress
from typing import Final

from layerfs.errors import NotReady, Unsupported
from layerfs.model import Driver, Mount
from layerfs.snapshots import quotas
from layerfs.snapshots.background import Background
from layerfs.snapshots.driver import (
    GIDS,
    UIDS,
    Capability,
    Form,
    LayerPlace,
    Nesting,
    Snapshot,
    SnapshotKind,
    Usage,
    usage_of,
)
from layerfs.snapshots.rebase import is_alone, upper_only
from layerfs.snapshots.root import make_root
from layerfs.spec.attach import AttachOptions
from layerfs.spec.options import MountOptions
from layerfs.spec.overlay import bind_mount, parse_mount_options
from layerfs.spec.printing import print_options
from layerfs.sys import dirs, quota
from layerfs.sys.fsmount import AT_FDCWD
from layerfs.sys.mounts import MountFlag
from layerfs.sys.namespaces import trusted_xattrs
from layerfs.sys.probe import PROBES
from layerfs.sys.sync import sync_names
from layerfs.sys.users import is_used
from layerfs.union.options import OverrideStat, UnionOptions

TYPE: Final = "fuse3.layerfs-mount"
FS, WORK, EMPTY = b"/fs", b"/work", b"/empty"
MODULE: Final = "snapshotters.xar"
IMAGE: Final = b"/layer.xar"
PACKING: Final = b"/packing"
# Of zstd: a quarter more bytes than at the writer's own default, for a twentieth of the CPU time (Debian's Python).
LEVEL: Final = 1


class XarDriver:
    """The driver `xar`."""

    capabilities = frozenset({Capability.REBASE})

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._privileged = os.geteuid() == 0
        # In a user namespace kernel overlayfs may stand on our union, which shows what the kernel would then obey.
        self._nesting = Nesting.KERNEL if trusted_xattrs() else Nesting.NONE
        self._background = Background(root, MODULE)

    def check(self) -> None:
        """Look for FUSE, which serves where the kernel may not, and go on with packing that was interrupted."""
        for probe in PROBES:
            if probe.name == "/dev/fuse" or (probe.name == "fusermount3, setuid" and not self._privileged):
                found = probe.run(self._root)
                if not found.present:
                    raise Unsupported(f"FUSE cannot be used: {found.name}: {found.detail}", found.remedy)
        self._background.start()

    def create(self, snapshot: Snapshot) -> None:
        """Make an empty layer."""
        quotas.bound(snapshot)
        refuse_maps(snapshot)
        below = self._used(snapshot, snapshot.parents[0]) if snapshot.parents else None
        make_root(snapshot.directory + FS, below)
        if not snapshot.parents:
            os.mkdir(snapshot.directory + EMPTY, 0o755)
        if snapshot.kind is SnapshotKind.ACTIVE:
            os.mkdir(snapshot.directory + WORK, 0o700)

    def mounts(self, snapshot: Snapshot) -> tuple[Mount, ...]:
        """Return one mount: a bind mount of the only layer where root may make it, else a union."""
        own, packed = snapshot.directory + FS, os.path.exists(snapshot.directory + IMAGE)
        writable = snapshot.kind is SnapshotKind.ACTIVE and not packed
        if is_alone(snapshot) and writable:
            return (upper_only(own, snapshot.directory + WORK),)
        if not snapshot.parents and self._privileged and not packed:
            return (bind_mount(own, read_only=not writable),)
        lowers = [self._used(snapshot, parent) for parent in snapshot.parents] or [snapshot.directory + EMPTY]
        if not writable and (packed or not snapshot.parents):
            lowers.insert(0, _place(snapshot.directory))
        override = OverrideStat.OFF if self._privileged else OverrideStat.CONTAINERS
        options = MountOptions(
            lowers=tuple(lowers),
            upper=own if writable else None,
            work=snapshot.directory + WORK if writable else None,
            union=UnionOptions(override_stat=override),
            attach=AttachOptions() if writable else AttachOptions(MountFlag.RDONLY),
            driver=Driver.AUTO,
        )
        return (Mount(TYPE, "layerfs", parse_mount_options(os.fsdecode(print_options(options)))),)

    def layer(self, directory: bytes) -> LayerPlace:
        """Return the image, or the directory of changes until there is one."""
        return LayerPlace(_place(directory), Form.CHANGES, directory + IMAGE, self._nesting)

    def seal(self, snapshot: Snapshot) -> None:
        """Have the snapshot packed in the background, unless its image was written directly."""
        dirs.remove(AT_FDCWD, snapshot.directory + WORK)
        if not os.path.exists(snapshot.directory + IMAGE):
            self._background.add(snapshot.directory)
        elif not self._background.is_pinned(_number(snapshot.directory)):
            with suppress(OSError):  # ENOTEMPTY: packed by the worker, whose affair it is
                os.rmdir(snapshot.directory + FS)
        self._background.unpin(_number(snapshot.directory))

    def usage(self, snapshot: Snapshot) -> Usage:
        """Count the directory of changes, or the image."""
        place = _place(snapshot.directory)
        return Usage(os.stat(place).st_blocks * 512, 1) if place.endswith(IMAGE) else usage_of(place)

    def discard(self, directory: bytes) -> None:
        """Let go of the parents' directories, and of a quota."""
        quota.forget(directory)
        self._background.unpin(_number(directory))

    def _used(self, snapshot: Snapshot, parent: bytes) -> bytes:
        """Return a parent's layer; a directory is noted as in use first, and then looked at again."""
        if _place(parent).endswith(FS):
            self._background.pin(_number(snapshot.directory), _number(parent))
        return _place(parent)


def refuse_maps(snapshot: Snapshot) -> None:
    """Raise Unsupported if labels ask for other owners: kernel and union would show them in different ways."""
    if any(name in snapshot.labels for name in (UIDS, GIDS)):
        raise Unsupported("snapshots of xar cannot be shown with other owners", "use overlay, fuse or btrfs for them")


def pack(directory: bytes) -> None:
    """Make the image of a committed snapshot; Unsupported, with nothing changed, if it cannot hold the layer."""
    from layerfs.xar.builder import Recipe, build

    staging = directory + PACKING
    dirs.remove(AT_FDCWD, staging)  # of one who was killed
    if not os.path.isdir(directory + FS) or os.path.exists(directory + IMAGE):
        return
    os.mkdir(staging, 0o700)
    try:
        fs, image = directory + FS, staging + IMAGE
        recipe = Recipe((fs,), image, level=LEVEL, keep_owners=True, xattr_table=True, own_times=True)
        built = build(recipe)
        if built.dropped:
            path, name = map(os.fsdecode, built.dropped[0])
            what = name if " " in name else f"attribute {name}"  # a time, or an xattr
            raise Unsupported(f"a squashfs image cannot hold the {what} of {path or '/'}")
        if built.changed:
            changed, what = built.changed[0]
            raise NotReady(f"/{os.fsdecode(changed)} {what}", "commit again when nothing writes to the snapshot")
        os.rename(staging + IMAGE, directory + IMAGE)
        sync_names(directory)
    finally:
        dirs.remove(AT_FDCWD, staging)


def main(root: bytes) -> None:
    """Pack what waits, and remove the directories that were packed and that nobody uses."""

    def tidy(directory: bytes) -> bool:
        if not os.path.exists(directory + IMAGE) or is_used(directory + FS):
            return False
        dirs.remove(AT_FDCWD, directory + FS)
        return True

    Background(root, MODULE).work(pack, tidy)


def _place(directory: bytes) -> bytes:
    """Return a snapshot's image, or its directory of changes."""
    return directory + (IMAGE if os.path.exists(directory + IMAGE) else FS)


def _number(directory: bytes) -> bytes:
    return os.path.basename(directory)


if __name__ == "__main__":
    main(os.fsencode(sys.argv[1]))
