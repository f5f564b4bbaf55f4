"""The service containerd.services.snapshots.v1.Snapshots: each RPC is one method that asks the store one thing."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from layerfs.daemon.calls import Call
from layerfs.daemon.convert import info_of, mounts_of
from layerfs.daemon.messages import EMPTY, SNAPSHOTS, message
from layerfs.daemon.remote import prepare_or_adopt
from layerfs.daemon.requests import filters_of, labels_of, update_of
from layerfs.daemon.served_store import ServedStore
from layerfs.daemon.spool import spooled
from layerfs.value import replace

BATCH: Final = 100  # snapshots in one message of List, as containerd's own service sends them
BYTES: Final = 1 << 20  # of one message that holds several snapshots; clients take 4 MiB (grpc's default) or 16

_Prepared, _Viewed, _Mounted = (
    message(SNAPSHOTS, f"{word}Response") for word in ("PrepareSnapshot", "ViewSnapshot", "Mounts")
)
_Stat, _Updated, _Listed, _Usage = (
    message(SNAPSHOTS, f"{word}Response") for word in ("StatSnapshot", "UpdateSnapshot", "ListSnapshots", "Usage")
)
_Empty = message(SNAPSHOTS, EMPTY)


class Snapshots:
    """The methods have containerd's names; each takes a request and what is known of its call, and returns the answer.

    They run in threads and raise LayerfsError and OSError; `List` returns an iterator of answers as they are sent.
    """

    def __init__(self, served: ServedStore) -> None:
        self._served = served

    def Prepare(self, request: Any, call: Call) -> Any:
        named = self._served.named(request.snapshotter)
        key, parent, labels = named.key(request.key), named.parent(request.parent), labels_of(request.labels)
        return _Prepared(mounts=mounts_of(prepare_or_adopt(named.snapshotter, key, parent, labels)))

    def View(self, request: Any, call: Call) -> Any:
        named = self._served.named(request.snapshotter)
        key, parent, labels = named.key(request.key), named.parent(request.parent), labels_of(request.labels)
        return _Viewed(mounts=mounts_of(named.snapshotter.view(key, parent, labels)))

    def Mounts(self, request: Any, call: Call) -> Any:
        named = self._served.named(request.snapshotter)
        return _Mounted(mounts=mounts_of(named.snapshotter.mounts(named.key(request.key))))

    def Commit(self, request: Any, call: Call) -> Any:
        named = self._served.named(request.snapshotter)
        name, key, parent = named.key(request.name, "name"), named.key(request.key), named.parent(request.parent)
        named.snapshotter.commit(name, key, labels_of(request.labels), parent=parent)
        return _Empty()

    def Remove(self, request: Any, call: Call) -> Any:
        named = self._served.named(request.snapshotter)
        named.snapshotter.remove(named.key(request.key))
        return _Empty()

    def Stat(self, request: Any, call: Call) -> Any:
        named = self._served.named(request.snapshotter)
        return _Stat(info=info_of(named.shown(named.snapshotter.stat(named.key(request.key)))))

    def Update(self, request: Any, call: Call) -> Any:
        named = self._served.named(request.snapshotter)
        info, fields = update_of(request)
        updated = named.snapshotter.update(replace(info, name=named.key(info.name)), *fields)
        return _Updated(info=info_of(named.shown(updated)))

    def List(self, request: Any, call: Call) -> Iterator[Any]:
        found = self._served.named(request.snapshotter).walk(*filters_of(request.filters))
        return spooled(_batches(map(info_of, found)), self._served.store.root)

    def Usage(self, request: Any, call: Call) -> Any:
        named = self._served.named(request.snapshotter)
        usage = named.snapshotter.usage(named.key(request.key))
        return _Usage(size=usage.size, inodes=usage.inodes)

    def Cleanup(self, request: Any, call: Call) -> Any:
        self._served.snapshotter(request.snapshotter).cleanup()
        return _Empty()


def _batches(found: Iterable[Any]) -> Iterator[Any]:
    """Yield snapshots in messages that every client takes, however many labels they have."""
    batch, size = _Listed(), 0
    for info in found:
        more = info.ByteSize()
        if batch.info and (len(batch.info) == BATCH or size + more > BYTES):
            yield batch
            batch, size = _Listed(), 0
        batch.info.append(info)
        size += more
    if batch.info:
        yield batch
