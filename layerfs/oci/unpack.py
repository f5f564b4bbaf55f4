"""An image's layers as snapshots: each is named by its ChainID, so images share what they have in common.

Layers are applied side by side where the driver lets a snapshot be put on top of another at commit: all that depends on
the layers below is looked at last (layerfs.oci.apply), and waits for them then.
"""

import hashlib
import os
from collections.abc import Callable, Container, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from threading import Event
from typing import Final

from layerfs.errors import AlreadyExists, NotFound, Unsupported
from layerfs.oci.below import Below, LateBelow, NothingBelow, UnionBelow
from layerfs.oci.closure import Chosen
from layerfs.oci.digest import Digest
from layerfs.oci.documents import Descriptor
from layerfs.oci.layer import Applied, Destination, Expected, apply_layer, pack_layer
from layerfs.oci.parallel import Progress, silent
from layerfs.oci.streams import reader_of
from layerfs.oci.target import USUAL, Limits, TargetForm
from layerfs.snapshots import driver
from layerfs.snapshots.leftovers import labels_of
from layerfs.snapshots.snapshotter import Snapshotter
from layerfs.store.content import Content

FORMS: Final = {driver.Form.CHANGES: TargetForm.OVERLAY, driver.Form.WHOLE: TargetForm.PLAIN}


class Cancelled(Exception):
    """Raised in the threads of the other layers when one has failed."""


def chain_ids(diff_ids: Sequence[Digest]) -> list[Digest]:
    """Return the name of each layer together with all below it (the image specification's ChainID)."""
    found: list[Digest] = []
    for diff_id in diff_ids:
        if not found:
            found.append(diff_id)
        else:
            found.append(Digest("sha256:" + hashlib.sha256(f"{found[-1]} {diff_id}".encode()).hexdigest()))
    return found


@dataclass
class Unpacking:
    """One image on its way into one snapshotter; the caller is in `leftovers.unpacking` until a record holds it.

    checked: blobs of which the digest was computed just now, and need not be once more.
    """

    content: Content
    snapshotter: Snapshotter
    image: Chosen
    progress: Progress = silent
    check: Callable[[], None] = lambda: None
    limits: Limits = USUAL
    checked: Container[Digest] = ()
    waived: list[tuple[bytes, str]] = field(default_factory=list)
    made: list[Digest] = field(default_factory=list)

    def run(self) -> list[Digest]:
        """Unpack what is not there yet and return the ChainIDs, bottom first. Raises as `apply_layer` does."""
        config = self.image.config
        if config is None:
            raise Unsupported("this is an artifact, and has no root filesystem")
        if config.platform.os not in ("", "linux"):
            raise Unsupported(f"the image is for {config.platform.os}, and layers of that cannot be unpacked here")
        chain = chain_ids(config.diff_ids)
        there = 0
        for number, name in enumerate(chain):
            if self._is_there(name):
                there = number + 1
        self._failed = Event()
        side_by_side = driver.Capability.REBASE in self.snapshotter.capabilities
        done: list[Future[None]] = []
        with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if side_by_side else 1) as pool:
            try:
                for number in range(there, len(chain)):
                    before = done[-1] if done else None
                    done.append(pool.submit(self._layer, number, chain, config.diff_ids[number], before, side_by_side))
                wait(done)
            except BaseException:  # Ctrl-C: who unpacks is to end, and to take away what it has begun
                self._failed.set()
                raise
        errors = [error for future in done if (error := future.exception()) is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, Cancelled)):
            raise error
        return chain

    def _is_there(self, name: Digest) -> bool:
        try:
            return self.snapshotter.stat(name).kind is driver.SnapshotKind.COMMITTED
        except NotFound:
            return False

    def _check(self) -> None:
        self.check()
        if self._failed.is_set():
            raise Cancelled

    def _layer(
        self, number: int, chain: list[Digest], diff_id: Digest, before: Future[None] | None, side_by_side: bool
    ) -> None:
        """Apply one layer and commit it when the one below is committed."""
        parent = chain[number - 1] if number else ""
        key = f"extract-{os.urandom(8).hex()} {chain[number]}"
        try:
            self._check()
            if not side_by_side and before is not None:
                before.result()
            self.snapshotter.prepare(key, "" if side_by_side else parent, labels_of(chain[number]))
            try:
                self._apply(key, number, chain, diff_id, before)
                if before is not None:
                    before.result()
                with suppress(AlreadyExists):  # somebody else has unpacked it meanwhile
                    self.snapshotter.commit(
                        chain[number], key, labels_of(chain[number]), parent=parent if side_by_side else ""
                    )
                    key = ""
                    self.made.append(chain[number])
            finally:
                if key:
                    self.snapshotter.remove(key)
        except BaseException:
            self._failed.set()
            raise

    def _apply(
        self, key: str, number: int, chain: list[Digest], diff_id: Digest, before: Future[None] | None
    ) -> Applied:
        layer = self.image.manifest.layers[number]
        own = self.snapshotter.writable_layer(key)
        form = FORMS[own.form]
        with ExitStack() as held:

            def ready() -> Below:
                if before is not None:
                    before.result()
                if not number:
                    return NothingBelow()
                return held.enter_context(UnionBelow(self.snapshotter.stack(chain[number - 1]).lowers))

            expected = Expected(layer.digest, diff_id, is_checked=layer.digest in self.checked)
            blob = self.content.open(layer.digest)
            held.callback(os.close, blob)
            read = self._shown(blob, layer.digest, layer.size)
            if own.image is not None:
                try:
                    done = pack_layer(
                        read, own.image, LateBelow(ready), expected, nesting=own.nesting, limits=self.limits,
                        check=self._check,
                    )  # fmt: skip
                    return self._done(done, layer)
                except Unsupported:  # a directory holds what no image can
                    os.lseek(blob, 0, os.SEEK_SET)
            root = os.open(own.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            held.callback(os.close, root)
            place = Destination(
                root, form, LateBelow(ready) if form is TargetForm.OVERLAY else None, nesting=own.nesting
            )
            done = apply_layer(read, place, expected, limits=self.limits, check=self._check)
        return self._done(done, layer)

    def _done(self, done: Applied, layer: Descriptor) -> Applied:
        self.waived += done.outcome.waived
        self.progress("unpacked", layer.digest, layer.size, layer.size)
        return done

    def _shown(self, blob: int, digest: Digest, size: int) -> Callable[[int], bytes]:
        read, done = reader_of(blob), 0

        def shown(count: int) -> bytes:
            nonlocal done
            piece = read(count)
            done += len(piece)
            self.progress("unpacking", digest, done, size)
            return piece

        return shown
