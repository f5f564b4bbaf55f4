"""The images of a store: records of kind `image`, each a name and the digest of an index or manifest.

A record holds every blob of its image that is there, and the snapshots of its layers; what no record holds any more
goes with the image.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from layerfs.errors import AlreadyExists, Corrupt, InvalidArgument, LayerfsError, NotFound
from layerfs.oci.digest import Digest, digest_of, parse_digest
from layerfs.oci.documents import Descriptor, Platform
from layerfs.snapshots.leftovers import is_unpacked, nobody_unpacking
from layerfs.snapshots.library import Store
from layerfs.store.records import Record
from layerfs.value import value

if TYPE_CHECKING:
    from layerfs.oci.closure import Chosen

KIND: Final = "image"
TYPE, SIZE, CHOSEN, CHOSEN_SIZE, CHOSEN_TYPE = "type", "size", "manifest", "manifest-size", "manifest-type"
SNAPSHOT: Final = "snapshot:"
_SHORTEST: Final = 6  # digits of a digest that stand for it


@value
class Image:
    """An image of the store. top: what its name stands for; chosen: the manifest for the platform it was taken for."""

    name: str
    top: Descriptor
    chosen: Descriptor
    created: int


class Images:
    """The images of one store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def all(self) -> list[Image]:
        """Return all images, by name."""
        return [_image(record) for record in self.store.records.all(KIND)]

    def get(self, text: str) -> Image:
        """Return the image that a name, or the beginning of a digest, means. Raises NotFound, InvalidArgument."""
        for name in _names(text):
            if (record := self.store.records.get(KIND, name)) is not None:
                return _image(record)
        digits = text.removeprefix("sha256:")
        if len(digits) >= _SHORTEST and not digits.strip("0123456789abcdef"):
            found = [image for image in self.all() if image.top.digest[7:].startswith(digits)]
            if len({image.top.digest for image in found}) > 1:
                raise InvalidArgument(f"{text} is the beginning of several images' digests")
            if found:
                return found[0]
        raise NotFound(f"there is no image {text}", "`layerfs image ls` shows what there is; pull or import it")

    def put(self, name: str, top: Descriptor, chosen: Descriptor, holds: Iterable[str]) -> Image:
        """Record an image, in place of one of that name."""
        labels = {
            TYPE: top.media_type,
            SIZE: str(top.size),
            CHOSEN: chosen.digest,
            CHOSEN_SIZE: str(chosen.size),
            CHOSEN_TYPE: chosen.media_type,
        }
        before = self.store.records.get(KIND, name)
        held = self.store.records.holds(KIND, name) if before is not None else []
        record = self.store.records.put(KIND, name, top.digest, holds, labels)
        self.drop(held)
        return _image(record)

    def tag(self, text: str, name: str) -> Image:
        """Give an image another name."""
        from layerfs.oci.reference import parse_reference

        image = self.get(text)
        return self.put(str(parse_reference(name)), image.top, image.chosen, self.holds(image))

    def holds(self, image: Image) -> list[str]:
        """Return what an image holds."""
        return self.store.records.holds(KIND, image.name)

    def remove(self, text: str) -> Image:
        """Remove a name; what only it held goes too, but for snapshots that others stand on.

        While somebody unpacks an image, which may need the same snapshots, these stay for the next collection.
        """
        image = self.get(text)
        with nobody_unpacking(self.store) as alone:
            holds = self.store.records.remove(KIND, image.name)
            self.drop(holds if alone else [hold for hold in holds if not hold.startswith(SNAPSHOT)])
        return image

    def drop(self, holds: Iterable[str]) -> None:
        """Give up what nothing holds any more: snapshots from the top, then blobs."""
        gone = [hold for hold in holds if not self.store.records.holders(hold)]
        for hold in reversed([hold for hold in self._in_order(gone) if hold.startswith(SNAPSHOT)]):
            driver, _, name = hold[len(SNAPSHOT) :].partition("/")
            with suppress(LayerfsError):  # it has children, or its driver is gone: a later collection takes it
                snapshotter = self.store.snapshotter(driver)
                if is_unpacked(snapshotter.stat(name)):  # else it is a client's, who committed it under this name
                    snapshotter.remove(name)
        self.store.content.remove(*(hold for hold in gone if not hold.startswith(SNAPSHOT)))

    def _in_order(self, holds: list[str]) -> list[str]:
        """Sort snapshots by their depth, parents first."""
        parents: dict[str, str] = {}
        for hold in holds:
            if hold.startswith(SNAPSHOT):
                driver, _, name = hold[len(SNAPSHOT) :].partition("/")
                parents[hold] = ""
                with suppress(LayerfsError):
                    parents[hold] = f"{SNAPSHOT}{driver}/{self.store.snapshotter(driver).stat(name).parent}"
        ordered: dict[str, None] = {}
        for hold in parents:
            way = []
            while hold in parents and hold not in ordered:
                way.append(hold)
                hold = parents[hold]
            ordered |= dict.fromkeys(reversed(way))
        return list(ordered)

    def keep(self, data: bytes) -> int:
        """Store a document, and return a descriptor that keeps it there."""
        digest = digest_of(data)
        try:
            with self.store.content.ingest(digest, len(data)) as taking:
                taking.restart()
                taking.write(data)
                return taking.commit().held
        except AlreadyExists:
            return self.store.content.hold(digest).held

    def document(self, wanted: Descriptor) -> bytes:
        """Return the bytes of a document in the store, checked. Raises NotFound, Corrupt."""
        from layerfs.oci.closure import read_document
        from layerfs.oci.streams import reader_of

        fd = self.store.content.open(wanted.digest)
        try:
            return read_document(reader_of(fd), wanted)
        finally:
            os.close(fd)

    def load(self, image: Image, platform: Platform | None = None) -> "Chosen":
        """Return an image's manifest and config, for a platform if another one is wanted."""
        from layerfs.oci.closure import choose, leaves, load

        if platform is None:
            return load(image.chosen, self.document)
        found = leaves(image.top, self.document, self.has)
        return choose(found, platform, self.document)

    def has(self, digest: Digest) -> bool:
        """Tell whether a blob is in the store."""
        return self.store.content.get(digest) is not None


def _names(text: str) -> Iterator[str]:
    """Yield what an image may be called, as it is written first: the grammar of names is not needed then."""
    yield text
    from layerfs.oci.reference import parse_reference

    with suppress(InvalidArgument):
        yield str(parse_reference(text))


def _image(record: Record) -> Image:
    labels: Mapping[str, str] = record.labels
    try:
        top = Descriptor(labels[TYPE], parse_digest(record.digest), int(labels[SIZE]))
        chosen = Descriptor(labels[CHOSEN_TYPE], parse_digest(labels[CHOSEN]), int(labels[CHOSEN_SIZE]))
    except (KeyError, ValueError):
        raise Corrupt(f"the store's record of image {record.name} is not as it should be") from None
    return Image(record.name, top, chosen, record.created)
