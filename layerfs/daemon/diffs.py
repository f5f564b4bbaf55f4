"""The service containerd.services.diff.v1.Diff: layers straight into a snapshot, and out of one.

Nothing is mounted. The mounts in a request only say which snapshot is meant; what is not ours is UNIMPLEMENTED, and
containerd goes on to its next differ ("walking").
"""

import logging
import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

from layerfs.daemon.calls import Call
from layerfs.daemon.content import ContentStore
from layerfs.daemon.convert import mounts_from
from layerfs.daemon.messages import DIFF, TYPES, message
from layerfs.daemon.requests import key_of, labels_of
from layerfs.daemon.served_store import ServedStore
from layerfs.errors import InvalidArgument, LayerfsError, Unsupported
from layerfs.model import Mount
from layerfs.snapshots.driver import PARENT_CHAIN, Form
from layerfs.snapshots.snapshotter import Snapshotter
from layerfs.store.info import Info, SnapshotKind

if TYPE_CHECKING:
    from layerfs.oci.digest import Digest
    from layerfs.oci.layer import Applied
    from layerfs.oci.produce import Difference

TAR: Final = "application/vnd.oci.image.layer.v1.tar"
GZIPPED: Final = f"{TAR}+gzip"
UNCOMPRESSED: Final = "containerd.io/uncompressed"  # label of a blob: the digest of its tar
_ENDINGS: Final = {"tar": "", "tar+gzip": "gzip", "tar.gzip": "gzip", "tar+zstd": "zstd", "tar.zstd": "zstd"}
_TOLD: Final = 100  # at most, of what a layer cannot say
_log = logging.getLogger("layerfs.daemon")
_Applied, _Differed = message(DIFF, "ApplyResponse"), message(DIFF, "DiffResponse")
_Descriptor = message(TYPES, "Descriptor")
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Diffs:
    """The methods have containerd's names; see `layerfs.daemon.snapshots.Snapshots`."""

    def __init__(self, served: ServedStore, content: ContentStore) -> None:
        self._served = served
        self._content = content

    def Apply(self, request: Any, call: Call) -> Any:
        from layerfs.oci.digest import parse_digest

        snapshotter, key = self._served.shown_by(mounts_from(request.mounts))
        info = snapshotter.stat(key)
        if info.kind is not SnapshotKind.ACTIVE:
            raise InvalidArgument(f"snapshot {key} is not active", "layers are applied to active snapshots")
        digest = parse_digest(request.diff.digest)
        found = self._apply(snapshotter, info, digest, call)
        return _Applied(applied=_Descriptor(media_type=TAR, digest=found.diff_id, size=found.size))

    def _apply(self, snapshotter: Snapshotter, info: Info, digest: "Digest", call: Call) -> "Applied":
        """Write a layer to a snapshot: as an image where its driver takes one that holds it, else as files."""
        from layerfs.oci import layer
        from layerfs.oci.below import Below, NothingBelow, UnionBelow
        from layerfs.oci.target import TargetForm

        place = snapshotter.writable_layer(info.name)
        expected = layer.Expected(packed=digest)
        with ExitStack() as held:
            root = os.open(place.path, _DIRECTORY)
            held.callback(os.close, root)
            form: TargetForm = TargetForm.PLAIN
            below: Below | None = None
            if place.form is Form.CHANGES:
                form = TargetForm.OVERLAY
                if info.parent:
                    below = held.enter_context(UnionBelow(snapshotter.stack(info.name).lowers[1:]))
                elif PARENT_CHAIN not in info.labels:  # else it will be put on top of something at commit
                    below = NothingBelow()
            if place.image is not None and not os.listdir(root):
                with suppress(Unsupported), self._content.reading(call.namespace, digest) as read:
                    return layer.pack_layer(
                        read, place.image, below, expected, nesting=place.nesting, check=lambda: _check(call)
                    )
            read = held.enter_context(self._content.reading(call.namespace, digest))
            target = layer.Destination(root, form, below, nesting=place.nesting)
            return layer.apply_layer(read, target, expected, check=lambda: _check(call))

    def Diff(self, request: Any, call: Call) -> Any:
        from layerfs.oci.produce import produce_layer

        media_type = request.media_type or GZIPPED
        compression = _compression(media_type)
        difference = self._difference(mounts_from(request.left), mounts_from(request.right))
        labels = labels_of(request.labels)
        with self._content.writing(call.namespace, key_of(request.ref or f"layerfs-diff-{call.number}", "ref")) as blob:
            made = produce_layer(difference, blob.write, compression, check=lambda: _check(call))
            blob.commit(made.packed, {UNCOMPRESSED: made.diff_id, **labels})
        for path, why in made.left_out[:_TOLD]:
            _log.warning("left out of a layer: %s %s", os.fsdecode(path), why)
        return _Differed(diff=_Descriptor(media_type=media_type, digest=made.packed, size=made.packed_size))

    def _difference(self, left: tuple[Mount, ...], right: tuple[Mount, ...]) -> "Difference":
        """Return what is to be compared. Raises Unsupported unless the left is the parent of the right."""
        from layerfs.oci.produce import Difference
        from layerfs.oci.target import TargetForm

        snapshotter, key = self._served.shown_by(right)
        own, *below = snapshotter.stack(key).lowers
        before = self._below(snapshotter, left) if left else ()
        if snapshotter.layer(key).form is Form.WHOLE:
            return Difference(own, TargetForm.PLAIN, before)
        if tuple(below) != before:
            raise Unsupported("the snapshots do not stand on one another", "containerd's own differ can compare them")
        return Difference(own, TargetForm.OVERLAY, before)

    def _below(self, snapshotter: Snapshotter, left: tuple[Mount, ...]) -> tuple[bytes, ...]:
        other, key = self._served.shown_by(left)
        if other.name != snapshotter.name:
            raise Unsupported("the snapshots are of two drivers", "containerd's own differ can compare them")
        return other.stack(key).lowers


def _compression(media_type: str) -> str:
    """Return how a layer of a media type is compressed. Raises Unsupported for what is no layer."""
    for ending, compression in _ENDINGS.items():
        if media_type.endswith(ending):
            return compression
    raise Unsupported(f"a layer of type {media_type[:100]!r} cannot be made", "tar, tar+gzip, tar+zstd can")


def _check(call: Call) -> None:
    if call.cancelled():
        raise LayerfsError("the client has gone")
