"""Snapshots as layers of kernel overlayfs: a directory of changes each, stacked by the kernel.

    ID/fs     what the snapshot changes of its parents, with overlayfs's marks
    ID/work   the kernel's scratch while the snapshot is active

Root has trusted.* marks, a user namespace user.* ones (`userxattr`); a store serves the one or the other. Root may
rename the directories of lower layers (`redirect_dir`); in a user namespace rename(2) answers EXDEV, and programs copy.

Owners are shifted (labels UIDS and GIDS) by idmapped mounts of the parents, which whoever mounts makes: options
`uidmap` and `gidmap`, as containerd 2 knows them. What the snapshot itself holds then has the container's ids on the
host.
"""

import errno
import os

from layerfs.errors import FULL, Unsupported
from layerfs.model import Mount, Stack
from layerfs.snapshots import quotas
from layerfs.snapshots.driver import (
    LOCAL,
    Capability,
    Form,
    LayerPlace,
    Nesting,
    Snapshot,
    SnapshotKind,
    Usage,
    usage_of,
)
from layerfs.snapshots.idmaps import IdMaps, maps_of
from layerfs.snapshots.rebase import is_alone, upper_only
from layerfs.snapshots.root import make_root
from layerfs.spec.overlay import bind_mount, kernel_options, overlay_mount
from layerfs.sys import dirs, quota
from layerfs.sys.fsmount import AT_FDCWD
from layerfs.sys.idmap import mapped_tree, namespace_of
from layerfs.sys.namespaces import trusted_xattrs
from layerfs.sys.overlay import try_overlay
from layerfs.union.options import UnionOptions

FS = b"/fs"
WORK = b"/work"
_WRITABLE = ("index=off", "metacopy=off")  # whatever the host's defaults are: a layer stands by itself


class OverlayDriver:
    """The driver `overlay`."""

    capabilities = frozenset({Capability.REBASE, Capability.REMAP_IDS})

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._trusted = trusted_xattrs()
        self._words = {writable: _words(writable, self._trusted) for writable in (True, False)}

    def check(self) -> None:
        """Make an overlay on the store's filesystem, which nobody sees, and let it go."""
        place = b"%s/try-%d-%s" % (self._root, os.getpid(), os.urandom(4).hex().encode())
        lower, upper, work = place + b"/lower", place + b"/upper", place + b"/work"
        try:
            for path in (place, lower, upper, work):
                os.mkdir(path, 0o700)
            os.setxattr(upper, f"{'trusted' if self._trusted else 'user'}.overlay.layerfs", b"")
            try_overlay(Stack((lower,), upper, work), place, self._words[True])
        except OSError as error:
            if error.errno in FULL:
                raise
            raise _unsupported(error, self._root) from error
        finally:
            dirs.remove(AT_FDCWD, place)

    def create(self, snapshot: Snapshot) -> None:
        """Make an empty layer."""
        quotas.bound(snapshot)
        maps = maps_of(snapshot.labels)
        owner = maps.root() if maps else None
        if maps and snapshot.parents:
            _require_idmaps(snapshot.parents[0] + FS, maps)
        make_root(snapshot.directory + FS, snapshot.parents[0] + FS if snapshot.parents else None)
        if owner is not None:
            os.chown(snapshot.directory + FS, *owner)
        if snapshot.kind is SnapshotKind.ACTIVE:
            os.mkdir(snapshot.directory + WORK, 0o700)

    def mounts(self, snapshot: Snapshot) -> tuple[Mount, ...]:
        """Return one mount: a bind mount where there is one layer, else an overlay.

        A view by our own command line is always an overlay, which shows what an overlay in a container left under its
        right names; containerd expects of one layer what its own snapshotter gives.
        """
        own = snapshot.directory + FS
        writable = snapshot.kind is SnapshotKind.ACTIVE
        parents = tuple(parent + FS for parent in snapshot.parents)
        maps = maps_of(snapshot.labels)
        if not parents:
            if is_alone(snapshot):
                return (upper_only(own, snapshot.directory + WORK),)
            return (bind_mount(own, read_only=not writable),)
        shift = () if maps is None else (f"uidmap={maps.uid_text}", f"gidmap={maps.gid_text}")
        if not writable and len(parents) == 1 and LOCAL in snapshot.labels:
            parents = (own, *parents)  # its own is empty, and the kernel wants two
        if not writable and len(parents) == 1:
            bound = bind_mount(parents[0], read_only=True)
            return (Mount(bound.type, bound.source, (*shift, *bound.options)),)
        stack = Stack(parents, own, snapshot.directory + WORK) if writable else Stack(parents)
        return (overlay_mount(stack, (*self._words[writable], *shift)),)

    def layer(self, directory: bytes) -> LayerPlace:
        """Return the directory of changes."""
        return LayerPlace(directory + FS, Form.CHANGES, nesting=Nesting.KERNEL)

    def seal(self, snapshot: Snapshot) -> None:
        """Do nothing: what is committed is not written to, since no mounts of it are given."""

    def usage(self, snapshot: Snapshot) -> Usage:
        """Count the layer."""
        return usage_of(snapshot.directory + FS)

    def discard(self, directory: bytes) -> None:
        """Let go of a quota; else there are but files and directories."""
        quota.forget(directory)


def _words(writable: bool, trusted: bool) -> tuple[str, ...]:
    """Return the options of an overlay that name no layers."""
    words = kernel_options(UnionOptions(), writable=writable, trusted=trusted)
    return (*words, *_WRITABLE) if writable else words


def _require_idmaps(path: bytes, maps: IdMaps) -> None:
    """Raise Unsupported unless this host can show a directory with other owners."""
    try:
        namespace = namespace_of(maps.uids, maps.gids)
        try:
            os.close(mapped_tree(path, namespace))
        finally:
            os.close(namespace)
    except OSError as error:
        raise Unsupported(
            f"this host cannot show layers with other owners (idmapped mounts): {error.strerror}",
            "use the snapshotter fuse, which maps ids itself, or a filesystem that has them (ext4, xfs, btrfs, tmpfs)",
        ) from error


def _unsupported(error: OSError, root: bytes) -> Unsupported:
    where = os.fsdecode(root)
    if error.errno == errno.EOPNOTSUPP:
        return Unsupported(f"the filesystem of {where} keeps no marks of overlays", "put --root on ext4, xfs, btrfs")
    if error.errno in (errno.EPERM, errno.EACCES):
        return Unsupported("this user may not mount kernel overlayfs", "be root, or in a user namespace, or use fuse")
    if error.errno == errno.ENODEV:
        return Unsupported("this kernel has no overlayfs", "as root: modprobe overlay; or use fuse")
    return Unsupported(f"kernel overlayfs refuses layers in {where}: {error.strerror}", "`dmesg` may say more")
