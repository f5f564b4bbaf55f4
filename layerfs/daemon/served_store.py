"""The store behind the socket: finds the snapshotter of a request and the snapshot of given mounts; counts."""

import os
import re
from typing import NamedTuple

from layerfs.daemon.config import ANY, PREFIX, driver_of
from layerfs.daemon.names import APART, NamedSnapshotter
from layerfs.errors import LayerfsError, NotFound, Unsupported
from layerfs.model import Mount
from layerfs.snapshots import registry
from layerfs.snapshots.library import Store
from layerfs.snapshots.snapshotter import Snapshotter
from layerfs.store import rows


class DriverCounts(NamedTuple):
    """What one driver holds: snapshots by kind, bytes of the committed ones, and how many are not packed yet."""

    kinds: dict[str, int]
    size: int
    packing: int


class ServedStore:
    """A store, and the names under which containerd knows its snapshotters: `layerfs`, `layerfs-overlay`, ..."""

    def __init__(self, store: Store, default: str = "auto") -> None:
        self.store = store
        self.default = default
        self.drivers = tuple(registry.names())  # looked up once: it takes as long as the rest of a request
        self._best: dict[str, Snapshotter] = {}
        root = re.escape(os.fsdecode(store.root))
        self._snapshot = re.compile(rf"{root}/drivers/([^/,:]+)/snapshots/(\d{{1,18}})(?=[/,:]|$)")
        self._inner = re.compile(rf"({root}/drivers/[^/,:]+/snapshots/\d{{1,18}})/[^/,:]*")

    def snapshotter(self, name: str) -> Snapshotter:
        """Return the snapshotter of a request. Raises NotFound for a name that is none, Unsupported."""
        if name in ("", ANY):
            return self._default()
        driver = name.removeprefix(PREFIX)
        if driver not in self.drivers:
            known = ", ".join([ANY, *(PREFIX + word for word in self.drivers)])
            raise NotFound(f"there is no snapshotter {name[:64]!r} here", f"there are: {known}")
        return self.store.snapshotter(driver)

    def named(self, name: str) -> NamedSnapshotter:
        """Return the snapshotter of a request with its own keys. Raises as `snapshotter`."""
        return NamedSnapshotter(self.snapshotter(name), APART if name in ("", ANY) else "")

    def _default(self) -> Snapshotter:
        default = self.default
        if default not in self._best:
            self._best[default] = self.store.snapshotter(driver_of(default))
        return self._best[default]

    def shown_by(self, mounts: tuple[Mount, ...]) -> tuple[Snapshotter, str]:
        """Return the snapshot that has these mounts, by its snapshotter and its key.

        What a client says is only used to find a candidate. A layer that was packed since the client got the mounts is
        now in another file of the same snapshot; that is no difference. Raises Unsupported for mounts that are not
        ours: containerd then asks its next differ.
        """
        for driver, number in self._named_in(mounts):
            if driver not in self.drivers:
                continue
            snapshotter = self.store.snapshotter(driver)
            with self.store.ledger.read() as db:
                keys = rows.showing(db, driver, number)
            for key in keys:
                if self._has(snapshotter, key, mounts):
                    return snapshotter, key
        raise Unsupported("these mounts are no snapshot of this store", "containerd's own differ can take them")

    def _named_in(self, mounts: tuple[Mount, ...]) -> list[tuple[str, int]]:
        """Return the snapshots whose directories the mounts name, the most likely first: that of the upper."""
        words = [word for mount in mounts for word in (mount.source, *mount.options)]
        words.sort(key=lambda word: not word.startswith("upperdir="))
        found = [(driver, int(number)) for word in words for driver, number in self._snapshot.findall(word)]
        return list(dict.fromkeys(found))[:512]

    def _has(self, snapshotter: Snapshotter, key: str, mounts: tuple[Mount, ...]) -> bool:
        try:
            return self._shape(snapshotter.mounts(key)) == self._shape(mounts)
        except LayerfsError:  # a committed one has none, or it went meanwhile
            return False

    def _shape(self, mounts: tuple[Mount, ...]) -> list[tuple[str, ...]]:
        """Return mounts as words, with snapshots' directories in place of what is in them."""
        words = ((mount.type, mount.target, mount.source, *mount.options) for mount in mounts)
        return [tuple(self._inner.sub(r"\1", word) for word in mount) for mount in words]

    def counts(self) -> dict[str, DriverCounts]:
        """Count what each driver that has snapshots holds."""
        found = {}
        with self.store.ledger.read() as db:
            for name in rows.drivers(db):
                counts, usage = rows.total(db, name)
                kinds = {kind.word: count for kind, count in counts.items()}
                found[name] = DriverCounts(kinds, usage.size, len(rows.unsealed(db, name)))
        return found
