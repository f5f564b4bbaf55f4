"""An image into the store, from a source on disk or from a registry: blobs, then snapshots, then the record.

Blobs that are there are not taken again; one that was broken off goes on where its bytes end, if the source can. Until
the record names them all, what was taken in is kept by descriptors of ours; a process that is killed leaves blobs and
snapshots that the next intake of the same image finds, or a collection takes away.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

from layerfs.errors import AlreadyExists, Corrupt, NotFound
from layerfs.oci.closure import Chosen, Leaf, attestations, choose, leaves, load, parts
from layerfs.oci.digest import Digest
from layerfs.oci.documents import Descriptor, Platform
from layerfs.oci.images import SNAPSHOT, Image, Images
from layerfs.oci.parallel import Progress, Stop, for_each_blob, silent
from layerfs.oci.platforms import host_platform
from layerfs.oci.sources import Source
from layerfs.oci.streams import PIECE
from layerfs.oci.target import USUAL, Limits
from layerfs.snapshots.leftovers import unpacking
from layerfs.snapshots.snapshotter import Snapshotter
from layerfs.store.content import Content, Taking


class Blobs(Protocol):
    """Where blobs come from."""

    def has(self, digest: Digest) -> bool:
        """Tell whether a blob can be had."""

    def fill(self, wanted: Descriptor, taking: Taking, told: Callable[[int], None]) -> None:
        """Write a blob's bytes from `taking.offset` on, or all again; `told` hears how many there are. NotFound."""

    def resumes_after(self, error: BaseException) -> bool:
        """Tell whether the next try can go on after this error: then the blobs that are complete are kept for it."""


@dataclass(frozen=True, slots=True)
class IntakeOptions:
    """What to take in of an image, and whether to unpack it (`snapshotter`)."""

    platform: Platform | None = None
    all_platforms: bool = False
    snapshotter: Snapshotter | None = None
    limits: Limits = USUAL


ONLY_OURS: Final = IntakeOptions()


@dataclass
class Intake:
    """One image on its way into a store. `waived`: what an unpacked layer lacks on this host, (path, why)."""

    images: Images
    blobs: Blobs
    wishes: IntakeOptions = ONLY_OURS
    progress: Progress = silent
    stop: Stop = field(default_factory=Stop)
    waived: list[tuple[bytes, str]] = field(default_factory=list)
    _checked: set[Digest] = field(default_factory=set)  # blobs whose digests this intake has seen to be right
    _made: list[str] = field(default_factory=list)  # what is to go again if anything fails

    def take(self, names: Iterable[str], top: Descriptor) -> list[Image]:
        """Take an image in under all its names. Raises Corrupt, NotFound, InvalidArgument, Unsupported, OSError."""
        with ExitStack() as held:
            self._held = held
            held.enter_context(unpacking(self.images.store))
            try:
                return self._all(list(names) or [top.digest], top)
            except BaseException as error:
                held.close()
                if not self.blobs.resumes_after(error):
                    self.images.drop(self._made)
                raise

    def know(self, document: Descriptor, data: bytes) -> None:
        """Take in a document whose bytes were fetched already."""
        if not self.images.has(document.digest):
            self._made.append(document.digest)
        with suppress(AlreadyExists), self.images.store.content.ingest(document.digest, document.size) as taking:
            taking.restart()
            taking.write(data)
            os.close(taking.commit().held)

    def _all(self, names: list[str], top: Descriptor) -> list[Image]:
        found = leaves(top, self._document, self.blobs.has)
        chosen = choose(found, self.wishes.platform or host_platform(), self._document)
        wanted = {each.digest: each for each in self._wanted(top, found, chosen)}
        for_each_blob(wanted.values(), self._take, self.stop)
        holds: list[str] = list(wanted)
        snapshotter = self.wishes.snapshotter
        if snapshotter is not None and chosen.config is not None:
            from layerfs.oci.unpack import Unpacking

            content, limits = self.images.store.content, self.wishes.limits
            task = Unpacking(content, snapshotter, chosen, self.progress, self.stop, limits, self._checked)
            prefix = f"{SNAPSHOT}{snapshotter.name}/"
            try:
                holds += [prefix + name for name in task.run()]
            finally:
                self._made += [prefix + name for name in task.made]
            self.waived += task.waived
        return [self.images.put(name, top, chosen.descriptor, holds) for name in names]

    def _wanted(self, top: Descriptor, found: list[Leaf], chosen: Chosen) -> list[Descriptor]:
        """Return all that is to be taken: the way to the image, the image, what attests it, and perhaps all others."""
        wanted = [top, chosen.descriptor, *parts(chosen.manifest)]
        for leaf in found:
            entry = leaf.descriptor
            if entry.digest == chosen.descriptor.digest:
                wanted += leaf.above
        others = [leaf.descriptor for leaf in found] if self.wishes.all_platforms else []
        for entry in [*others, *attestations(found, chosen.descriptor)]:
            with suppress(NotFound):  # a source need not have what is not ours
                blobs = parts(load(entry, self._document).manifest)
                wanted += [entry, *(part for part in blobs if self.blobs.has(part.digest))]
        return wanted

    def _document(self, wanted: Descriptor) -> bytes:
        """Return a document's bytes, from the store or taken into it."""
        self._take(wanted)
        return self.images.document(wanted)

    def _take(self, wanted: Descriptor) -> None:
        """Take one blob in, and keep it."""
        self.stop()
        content = self.images.store.content
        if not self.images.has(wanted.digest):
            self._made.append(wanted.digest)
        try:
            held, is_new = take_blob(content, wanted, self.blobs, lambda done: self._told(wanted, done))
        except NotFound:
            if wanted.raw.get("urls"):
                said = f"layer {wanted.digest} does not come with the image: it names addresses from which to have it"
                raise NotFound(said, "layerfs fetches from no address that an image names") from None
            raise
        self._held.callback(os.close, held)
        if is_new:
            self._checked.add(wanted.digest)
        self.stop()  # where nobody waits any more
        self.progress("stored", wanted.digest, wanted.size, wanted.size)

    def _told(self, wanted: Descriptor, done: int) -> None:
        self.stop()
        self.progress("storing", wanted.digest, done, wanted.size)


def take_blob(content: Content, wanted: Descriptor, blobs: Blobs, told: Callable[[int], None]) -> tuple[int, bool]:
    """Take a blob into the store; return a descriptor that keeps it there, and whether it is new, and so checked."""
    while True:
        try:
            with content.ingest(wanted.digest, wanted.size) as taking:
                blobs.fill(wanted, taking, told)
                return taking.commit().held, True
        except AlreadyExists:
            pass
        try:
            found = content.hold(wanted.digest)
        except NotFound:  # collected just now
            continue
        if found.blob.size != wanted.size:
            os.close(found.held)
            raise Corrupt(f"blob {wanted.digest} has {found.blob.size} bytes, and not {wanted.size}")
        return found.held, False


@dataclass(frozen=True, slots=True)
class FromSource:
    """The blobs of a source on disk."""

    source: Source

    def has(self, digest: Digest) -> bool:
        """Tell whether the source has a blob."""
        return self.source.has(digest)

    def fill(self, wanted: Descriptor, taking: Taking, told: Callable[[int], None]) -> None:
        """Copy a blob."""
        taking.restart()
        try:
            with self.source.open(wanted.digest) as read:
                while piece := read(PIECE):
                    if taking.offset + len(piece) > wanted.size:
                        raise Corrupt(f"blob {wanted.digest} has more than {wanted.size} bytes")
                    taking.write(piece)
                    told(taking.offset)
        except BaseException:
            taking.restart()  # the next one begins anew, so this would only take space
            raise

    def resumes_after(self, error: BaseException) -> bool:
        """Say no: a copy from disk begins anew."""
        return False
