"""A store opened: its snapshotters, its content, its records. This is what `layerfs.open_store` returns.

    with layerfs.open_store("/var/lib/layerfs") as store:
        snapshots = store.snapshotter("overlay")
        for mount in snapshots.prepare("work", "base"):
            mount.perform(b"/mnt")
"""

import os
from types import TracebackType
from typing import Protocol, Self

from layerfs.snapshots.snapshotter import Snapshotter
from layerfs.store.content import Content
from layerfs.store.records import Records


class Store(Protocol):
    """A store; a context manager. Threads share one, processes open one each."""

    root: bytes
    content: Content
    records: Records

    def snapshotter(self, name: str = "auto") -> Snapshotter:
        """Return the snapshotter of a driver; `auto` takes the best that this host can run. NotFound, Unsupported."""

    def drivers(self) -> dict[str, str]:
        """Return the names of all drivers, and why this host cannot run one (empty if it can)."""

    def close(self) -> None:
        """Close the ledger; background work goes on by itself."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        ...


def default_root() -> bytes:
    """Return where this user's store is: LAYERFS_ROOT, root's /var/lib/layerfs, else $XDG_DATA_HOME/layerfs."""
    chosen = os.environb.get(b"LAYERFS_ROOT")
    if chosen:
        return os.path.join(os.getcwdb(), chosen)
    if os.geteuid() == 0:
        return b"/var/lib/layerfs"
    base = os.environb.get(b"XDG_DATA_HOME", b"")
    if not base.startswith(b"/"):  # relative ones are to be ignored (XDG Base Directory Specification)
        base = os.path.join(os.path.expanduser(b"~"), b".local/share")
    return os.path.join(base, b"layerfs")
