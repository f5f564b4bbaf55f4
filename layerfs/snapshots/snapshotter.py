"""The lifecycle of the snapshots of one driver, with containerd's semantics (core/snapshots, "Snapshotter").

    prepare KEY [PARENT] --> ACTIVE --commit NAME--> COMMITTED --> parent of others
    view KEY [PARENT] -----> VIEW
    remove: any of them that has no children

Keys of active snapshots and views and names of committed ones are one key space for each driver. They are opaque: any
text, never a path.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol

from layerfs.model import Mount, Stack
from layerfs.snapshots.driver import NOTHING, Capability, Layer
from layerfs.store.info import Info, Usage


class Snapshotter(Protocol):
    """The snapshots of one driver in one store; every method may be called from any thread.

    Raises, besides OSError of the disk: NotFound (no such key, no such parent), AlreadyExists (key or name taken),
    InvalidArgument (the parent is not committed; a field that cannot be changed; a bad filter), NotReady (mounts of a
    committed snapshot, commit of what is not active, removal of what has children), Unsupported (the host lacks it).
    """

    name: str
    capabilities: frozenset[Capability]

    def prepare(self, key: str, parent: str = "", labels: Mapping[str, str] = NOTHING) -> tuple[Mount, ...]:
        """Make an active snapshot on top of a committed one, or of nothing, and return its mounts."""

    def view(self, key: str, parent: str = "", labels: Mapping[str, str] = NOTHING) -> tuple[Mount, ...]:
        """Make a read-only view of a committed snapshot, and return its mounts."""

    def mounts(self, key: str) -> tuple[Mount, ...]:
        """Return the mounts of an active snapshot or a view."""

    def commit(
        self,
        name: str,
        key: str,
        labels: Mapping[str, str] = NOTHING,
        *,
        parent: str = "",
        volatile: bool = False,
    ) -> None:
        """Make an active snapshot a committed one of another name; its labels are replaced.

        What it holds is on disk before it counts as committed; `volatile` leaves that to the caller. `parent` puts a
        snapshot that was prepared without a parent on top of one (containerd's "rebase").
        """

    def remove(self, key: str) -> None:
        """Remove a snapshot that has no children; what it took is given back by `cleanup`."""

    def stat(self, key: str) -> Info:
        """Return what is known of a snapshot."""

    def update(self, info: Info, *fields: str) -> Info:
        """Change labels and return what is known then: all of them, or those that `labels.NAME` fields name."""

    def walk(self, *filters: str) -> Iterator[Info]:
        """Yield the snapshots that match one of the filters (containerd's language), by name; without filters all."""

    def usage(self, key: str) -> Usage:
        """Return what a snapshot itself takes: as it is now while active, else as it was at commit."""

    def cleanup(self) -> int:
        """Give back what removed snapshots took, finish what was interrupted, and return how many are gone."""

    def layer(self, key: str) -> Layer:
        """Return where a snapshot has its own content, for who fills or reads it without mounting."""

    def stack(self, key: str) -> Stack:
        """Return the layers that a snapshot consists of; an active one's own is the upper."""
