"""Keys of two snapshotter names in one key space: `layerfs-overlay`, and `layerfs`, which stands for the best driver.

containerd takes the two names for two snapshotters, and both may lead to one driver. It numbers the keys of each from
1, and its collector removes every snapshot of a snapshotter that its own records do not name. So the store's keys of
the name `layerfs` begin with APART, and each name lists and finds its own keys only. A key of containerd begins with a
namespace, which never looks like APART.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from layerfs.daemon.remote import is_hidden
from layerfs.daemon.requests import key_of, parent_of
from layerfs.errors import InvalidArgument
from layerfs.snapshots.filters import parse_all
from layerfs.snapshots.snapshotter import Snapshotter
from layerfs.store.info import Info
from layerfs.value import replace

APART: Final = "@layerfs "


class NamedSnapshotter(NamedTuple):
    """A snapshotter under one of its names. The store's keys of that name begin with `prefix`: APART, or empty."""

    snapshotter: Snapshotter
    prefix: str

    def key(self, text: str, what: str = "key") -> str:
        """Return the store's key for a client's. Raises InvalidArgument for a bad key, or one of the other name."""
        return self._own(key_of(text, what))

    def parent(self, text: str) -> str:
        """Return the store's name for a client's parent, which may be empty. Raises InvalidArgument."""
        return self._own(parent_of(text)) if text else ""

    def _own(self, text: str) -> str:
        if not self.prefix and text.startswith(APART):
            raise InvalidArgument(f"keys that begin with {APART!r} are those of the snapshotter layerfs")
        return self.prefix + text

    def shown(self, info: Info) -> Info:
        """Return a snapshot as the client knows it: without the prefix."""
        cut = len(self.prefix)
        return replace(info, name=info.name[cut:], parent=info.parent[cut:]) if cut else info

    def walk(self, *filters: str) -> Iterator[Info]:
        """Yield the snapshots of this name that match one of the filters; see `Snapshotter.walk`."""
        if not self.prefix:
            found = self.snapshotter.walk(*filters)
            return (info for info in found if not info.name.startswith(APART) and not is_hidden(info))
        wanted = parse_all(filters)
        mine = (self.shown(info) for info in self.snapshotter.walk() if info.name.startswith(self.prefix))
        return (info for info in mine if wanted.matches(info))
