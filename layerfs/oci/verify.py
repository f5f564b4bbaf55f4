"""An image in a store read again to the last byte: digests, DiffIDs, and that nothing is missing."""

import os
from collections.abc import Callable

from layerfs.errors import LayerfsError
from layerfs.oci.closure import parts
from layerfs.oci.digest import Digest, Hasher
from layerfs.oci.documents import Descriptor
from layerfs.oci.images import SNAPSHOT, Image, Images
from layerfs.oci.streams import PIECE, LayerStream, reader_of
from layerfs.oci.target import USUAL, Limits

Progress = Callable[[int, int], None]


def verify(
    images: Images, image: Image, progress: Progress = lambda done, total: None, limits: Limits = USUAL
) -> list[tuple[str, str]]:
    """Return what is wrong: (digest or snapshot, why). A layer beyond the limits is."""
    wrong: list[tuple[str, str]] = []
    holds = images.holds(image)
    diff_ids = _diff_ids(images, image, wrong)
    blobs = [hold for hold in holds if not hold.startswith(SNAPSHOT)]
    for number, digest in enumerate(blobs):
        progress(number, len(blobs))
        try:
            why = _blob(images, Digest(digest), diff_ids.get(Digest(digest)), limits)
        except (LayerfsError, OSError) as error:
            why = str(error)
        if why:
            wrong.append((digest, why))
    return wrong + _snapshots(images, holds)


def _diff_ids(images: Images, image: Image, wrong: list[tuple[str, str]]) -> dict[Digest, Digest]:
    """Return the DiffID of each layer's blob, as the image's config says."""
    try:
        chosen = images.load(image)
        missing = [part for part in parts(chosen.manifest) if not images.has(part.digest)]
        wrong += [(part.digest, "is missing") for part in missing]
        if chosen.config is None:
            return {}
        layers: tuple[Descriptor, ...] = chosen.manifest.layers
        return {layer.digest: diff_id for layer, diff_id in zip(layers, chosen.config.diff_ids, strict=True)}
    except (LayerfsError, OSError) as error:
        wrong.append((image.chosen.digest, str(error)))
        return {}


def _blob(images: Images, digest: Digest, diff_id: Digest | None, limits: Limits) -> str:
    """Return what is wrong with a blob; nothing for a good one."""
    fd = images.store.content.open(digest)
    try:
        hasher = Hasher()
        while piece := os.read(fd, PIECE):
            hasher.update(piece)
        if hasher.digest != digest:
            return f"its bytes are {hasher.digest}"
        if diff_id is None:
            return ""
        os.lseek(fd, 0, os.SEEK_SET)
        stream = LayerStream(reader_of(fd), most=limits.size)
        for _ in stream:
            pass
        return (
            "" if stream.unpacked.digest == diff_id else f"uncompressed it is {stream.unpacked.digest}, not {diff_id}"
        )
    finally:
        os.close(fd)


def _snapshots(images: Images, holds: list[str]) -> list[tuple[str, str]]:
    wrong = []
    for hold in holds:
        if hold.startswith(SNAPSHOT):
            driver, _, name = hold[len(SNAPSHOT) :].partition("/")
            try:
                images.store.snapshotter(driver).stat(name)
            except LayerfsError as error:
                wrong.append((hold, error.message))
    return wrong
