"""The contract of a driver, which keeps the bytes of snapshots. The author of a driver needs this file alone.

What a driver is
    A driver turns a snapshot's directory into mounts. It comes by name through the entry-point group
    `layerfs.snapshotters`; what is registered there is called with one argument, a directory that is the driver's
    alone, and returns a `SnapshotDriver`. The call does nothing yet: it neither reads nor makes anything.

    Names, kinds, labels, parents, transactions, times and the order of steps are not its affair: the `Snapshotter`
    has them in the store's ledger, for all drivers alike.

What it is given
    A `Snapshot`: its number, its kind, the directory in which the driver may do as it likes, the directories of its
    parents (nearest first, down to the base), and its labels. Directories exist, belong to the store's owner and are
    closed to others. A directory moves: it is made in one place, serves in another, and is deleted in a third, always
    on one filesystem. So nothing in it may depend on its path, and no path is to be remembered between two calls.

    What stands in a snapshot is a stranger's content: no name below it is used through a path that follows links, and
    nothing is opened whose type was not looked at.

What it promises
    `create`, `seal` and `discard` may be killed at any moment and called again: the second call finishes. `create` is
    called on an empty directory; a directory in which it was killed is thrown away by `discard`.

    A driver never changes a parent, nor a committed snapshot, nor any directory but the one it is given. It may look
    into the parents. `seal` may change how a snapshot is kept, never what it holds, and what serves it until then must
    serve on as long as mounts of it live.

    `mounts` changes nothing that shows in the tree, is quick, and says the same for the same snapshot and host.
    Who executes the mounts may be another process: options, types and sources are the whole message. Nothing in a
    driver mounts.

    With `Capability.REBASE`, the mounts of an ACTIVE snapshot without a parent that has the label PARENT_CHAIN are one
    of type `overlay` with `upperdir` and `workdir` and no lower: content is unpacked into `upperdir`, with the marks
    of overlays, and never mounted. It gets its parents at its commit, and `create` is not called again.

    `usage` and `layer` change nothing. What `usage` costs may grow with the snapshot's own content only.

    All methods may be called from several threads and processes at once, for different snapshots; for one snapshot
    `create`, `seal` and `discard` are never called at once.

What a crash may leave
    Killed in `create`: a directory that `discard` must be able to take away. Killed in `seal`: a snapshot that is
    whole, and `seal` is called again at the next start. Killed in `discard`: a directory that `discard` takes again.
    After a power cut a committed snapshot is whole, since the filesystem of its directory is synced before the ledger
    says that it is committed; `seal` comes after that and syncs what it replaces before it removes anything.

How it fails
    By OSError or LayerfsError. `Unsupported` with a hint says that the host, or the filesystem of the directory, lacks
    something; a label that cannot be honoured is refused so, never passed over, if it changes who owns what. The
    Snapshotter undoes what it began; a driver need not undo what `discard` removes.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Protocol

from layerfs.model import Mount
from layerfs.store.info import NOTHING, Info, SnapshotKind, Usage
from layerfs.sys.scan import count_tree
from layerfs.value import value

# fmt: off
__all__ = [
    "GIDS", "LOCAL", "NOTHING", "PARENT_CHAIN", "UIDS", "Capability", "Form", "Info", "LayerPlace", "Mount", "Nesting",
    "Snapshot", "SnapshotDriver", "SnapshotKind", "Usage", "usage_of",
]
# fmt: on

UIDS = "containerd.io/snapshot/uidmapping"
GIDS = "containerd.io/snapshot/gidmapping"
PARENT_CHAIN = "containerd.io/snapshot/parent-chain-id"  # what it will stand on once it is committed
LOCAL = "layerfs.local"  # made by our own command line, for nobody else: containerd's collector is not shown it


class Form(Enum):
    """How a snapshot's own content stands in its layer."""

    CHANGES = "changes"  # what it changes of its parents, with the marks of overlays: whiteouts, opaque directories
    WHOLE = "whole"  # the whole tree, parents included, without marks


class Nesting(Enum):
    """What the mounts of a CHANGES layer show of an overlay in a container: marks that are stored as content.

    They are stored with `overlay.` put in once more (overlayfs.rst, "nesting overlayfs mounts").
    """

    NONE = "none"  # nothing is known: content of that kind is refused
    KERNEL = "kernel"  # kernel overlayfs shows the xattrs that have its own prefix, if it is new enough
    UNION = "union"  # layerfs's union shows xattrs of all overlays, and the device 0/0


class Capability(Enum):
    """Abilities that not every driver has; the values are those of containerd's proxy plugins."""

    REBASE = "rebase"  # a snapshot without a parent may be committed on top of one; see PARENT_CHAIN
    REMAP_IDS = "remap-ids"  # the labels UIDS and GIDS are honoured by the mounts it returns


@value
class Snapshot:
    """One snapshot as a driver sees it. `parents` are directories of committed snapshots, nearest first."""

    id: int
    kind: SnapshotKind
    directory: bytes
    parents: tuple[bytes, ...] = ()
    labels: Mapping[str, str] = NOTHING


@value
class LayerPlace:
    """Where a snapshot's own content is: a directory, or an image (squashfs, XAR).

    Who fills an active snapshot without mounting it writes into `path` in its `form`. Where `image` is not None, it
    may instead put an image in the same form there, by one rename; `path` is then of no account. `nesting` is what of
    an overlay in a container may be stored there.
    """

    path: bytes
    form: Form
    image: bytes | None = None
    nesting: Nesting = Nesting.NONE


def usage_of(path: bytes) -> Usage:
    """Count a directory and all below it, which is not trusted; a file with several names counts once."""
    return Usage(*count_tree(path))


class SnapshotDriver(Protocol):
    """What every driver has; see the top of this file."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this driver can do beyond what all can; it does not change while the process lives."""

    def check(self) -> None:
        """Raise Unsupported, with a hint, if this process on this host cannot run the driver in its directory.

        OSError of ENOSPC or EDQUOT is no answer: the driver then counts as one that can be run.
        """

    def create(self, snapshot: Snapshot) -> None:
        """Make what an ACTIVE snapshot or a VIEW needs in its empty directory, so that `mounts` shows its parents."""

    def mounts(self, snapshot: Snapshot) -> tuple[Mount, ...]:
        """Return the mounts that show an ACTIVE snapshot or a VIEW, in order; at least one.

        containerd unpacks straight into `upperdir` where this is one mount of type `overlay`, takes a read-only last
        mount for "nothing to unpack", and untars through any other.
        """

    def layer(self, directory: bytes) -> LayerPlace:
        """Return where the snapshot of this directory has its own content."""

    def seal(self, snapshot: Snapshot) -> None:
        """Do what a COMMITTED snapshot needs: make it read-only, or queue it to be packed. Returns at once."""

    def usage(self, snapshot: Snapshot) -> Usage:
        """Return what the snapshot itself takes now, without its parents."""

    def discard(self, directory: bytes) -> None:
        """Remove what is not just files and directories (subvolumes, for example); the Snapshotter removes the rest."""
