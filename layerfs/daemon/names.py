"""The two names that containerd may know a driver by, kept apart: `layerfs-overlay`, and `layerfs` for the best one.

containerd numbers the keys of each snapshotter from 1, and its collector removes what it does not find in its own
records for that snapshotter. So what is made by the name `layerfs` has keys that begin with APART in the store, and
is neither listed nor found by the driver's own name, nor the reverse. containerd's own keys begin with a namespace,
which never begins like that.
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
    """A snapshotter as it is known by one name; its keys in the store begin with `prefix`, which is APART or empty."""

    snapshotter: Snapshotter
    prefix: str

    def key(self, text: str, what: str = "key") -> str:
        """Return the store's key for a client's. Raises InvalidArgument for one that is none, or the other name's."""
        return self._own(key_of(text, what))

    def parent(self, text: str) -> str:
        """Return the store's name for a client's parent, which may be empty. Raises InvalidArgument."""
        return self._own(parent_of(text)) if text else ""

    def _own(self, text: str) -> str:
        if not self.prefix and text.startswith(APART):
            raise InvalidArgument(f"keys that begin with {APART!r} are those of the snapshotter layerfs")
        return self.prefix + text

    def shown(self, info: Info) -> Info:
        """Return what the client is told of a snapshot."""
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
