"""The service containerd.services.snapshots.v1.Snapshots: each RPC is one method that asks the store one thing."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from layerfs.daemon.calls import Call
from layerfs.daemon.convert import info_of, mounts_of
from layerfs.daemon.messages import EMPTY, SNAPSHOTS, message
from layerfs.daemon.node import Node
from layerfs.daemon.remote import is_hidden, prepare_or_adopt
from layerfs.daemon.requests import filters_of, key_of, labels_of, parent_of, update_of
from layerfs.daemon.spool import spooled

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

    def __init__(self, node: Node) -> None:
        self._node = node

    def Prepare(self, request: Any, call: Call) -> Any:
        snapshotter = self._node.snapshotter(request.snapshotter)
        key, parent, labels = key_of(request.key), parent_of(request.parent), labels_of(request.labels)
        return _Prepared(mounts=mounts_of(prepare_or_adopt(snapshotter, key, parent, labels)))

    def View(self, request: Any, call: Call) -> Any:
        snapshotter = self._node.snapshotter(request.snapshotter)
        key, parent, labels = key_of(request.key), parent_of(request.parent), labels_of(request.labels)
        return _Viewed(mounts=mounts_of(snapshotter.view(key, parent, labels)))

    def Mounts(self, request: Any, call: Call) -> Any:
        return _Mounted(mounts=mounts_of(self._node.snapshotter(request.snapshotter).mounts(key_of(request.key))))

    def Commit(self, request: Any, call: Call) -> Any:
        snapshotter = self._node.snapshotter(request.snapshotter)
        name, key, parent = key_of(request.name, "name"), key_of(request.key), parent_of(request.parent)
        snapshotter.commit(name, key, labels_of(request.labels), parent=parent)
        return _Empty()

    def Remove(self, request: Any, call: Call) -> Any:
        self._node.snapshotter(request.snapshotter).remove(key_of(request.key))
        return _Empty()

    def Stat(self, request: Any, call: Call) -> Any:
        return _Stat(info=info_of(self._node.snapshotter(request.snapshotter).stat(key_of(request.key))))

    def Update(self, request: Any, call: Call) -> Any:
        info, fields = update_of(request)
        return _Updated(info=info_of(self._node.snapshotter(request.snapshotter).update(info, *fields)))

    def List(self, request: Any, call: Call) -> Iterator[Any]:
        found = self._node.snapshotter(request.snapshotter).walk(*filters_of(request.filters))
        shown = (info for info in found if not is_hidden(info))
        return spooled(_batches(map(info_of, shown)), self._node.store.root)

    def Usage(self, request: Any, call: Call) -> Any:
        usage = self._node.snapshotter(request.snapshotter).usage(key_of(request.key))
        return _Usage(size=usage.size, inodes=usage.inodes)

    def Cleanup(self, request: Any, call: Call) -> Any:
        self._node.snapshotter(request.snapshotter).cleanup()
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
