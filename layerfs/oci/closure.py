"""All documents and blobs of which an image consists, walked from its top: index in index, manifests, configs, layers.

Each document is fetched once, checked against its descriptor, and parsed from those very bytes.
"""

from collections.abc import Callable, Iterator
from typing import Final

from layerfs.errors import Corrupt, Unsupported
from layerfs.oci import documents, platforms
from layerfs.oci.digest import Digest, digest_of
from layerfs.oci.documents import (
    DOCUMENT_MAX,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    parse_config,
    parse_document,
)
from layerfs.oci.streams import PIECE, Read
from layerfs.value import value

DEPTH_MAX: Final = 4  # indexes in indexes
MANIFESTS_MAX: Final = 500  # of one image; guessed

Fetch = Callable[[Descriptor], bytes]  # the bytes of a document, checked


@value
class Leaf:
    """A manifest, and the indexes through which it was reached, the topmost first."""

    descriptor: Descriptor
    above: tuple[Descriptor, ...]


@value
class Chosen:
    """The image for one platform: its manifest and its config; `config` is None for an artifact."""

    descriptor: Descriptor
    manifest: Manifest
    config: ImageConfig | None

    @property
    def image_config(self) -> ImageConfig:
        """The config of what can be run and stacked. Raises Unsupported for an artifact."""
        if self.config is None:
            raise Unsupported(f"{self.descriptor.digest} is an artifact, not an image of a container")
        return self.config


def read_document(read: Read, wanted: Descriptor) -> bytes:
    """Return a document's bytes if they are what its descriptor says. Raises Corrupt."""
    if wanted.size > DOCUMENT_MAX:
        raise Corrupt(f"a document of {wanted.size} bytes is too large for an image")
    found = b""
    while len(found) <= wanted.size and (piece := read(PIECE)):
        found += piece
    return checked(found, wanted)


def checked(data: bytes, wanted: Descriptor) -> bytes:
    """Return bytes if they are what a descriptor says. Raises Corrupt."""
    if len(data) != wanted.size or digest_of(data) != wanted.digest:
        raise Corrupt(f"document {wanted.digest} of {wanted.size} bytes has others: {len(data)}, {digest_of(data)}")
    return data


def leaves(top: Descriptor, fetch: Fetch, has: Callable[[Digest], bool] = lambda digest: True) -> list[Leaf]:
    """Return all manifests below an index, or the one that `top` is; indexes that are not there have none."""
    found: list[Leaf] = []
    waiting = [Leaf(top, ())]
    while waiting:
        leaf = waiting.pop()
        if not _may_be_index(leaf.descriptor) or not has(leaf.descriptor.digest):
            found.append(leaf)
        else:
            document = parse_document(fetch(leaf.descriptor), leaf.descriptor.media_type)
            if isinstance(document, Manifest):
                found.append(leaf)
            else:
                waiting += _inner(leaf, document)
        if len(found) + len(waiting) > MANIFESTS_MAX:
            raise Corrupt(f"the image has more than {MANIFESTS_MAX} manifests")
    return found


def _may_be_index(entry: Descriptor) -> bool:
    return entry.media_type not in documents.MANIFESTS


def _inner(leaf: Leaf, index: Index) -> list[Leaf]:
    above = (*leaf.above, leaf.descriptor)
    if len(above) > DEPTH_MAX:
        raise Corrupt(f"the image has more than {DEPTH_MAX} indexes in each other")
    return [Leaf(entry, above) for entry in index.manifests[::-1]]


def choose(found: list[Leaf], platform: Platform, fetch: Fetch) -> Chosen:
    """Return the image for a platform. Raises NotFound, Corrupt, Unsupported."""
    entries = [leaf.descriptor for leaf in found]
    chosen = entries[0] if len(found) == 1 and not found[0].above else platforms.choose(entries, platform)
    return load(chosen, fetch)


def load(entry: Descriptor, fetch: Fetch) -> Chosen:
    """Return a manifest with its config. Raises Corrupt, Unsupported."""
    manifest = parse_document(fetch(entry), entry.media_type)
    if not isinstance(manifest, Manifest):
        raise Corrupt(f"{entry.digest} is said to be a manifest, and is an index")
    if not manifest.is_image:
        return Chosen(entry, manifest, None)
    for layer in manifest.layers:
        if layer.media_type.endswith("+encrypted"):
            raise Unsupported(f"layer {layer.digest} is encrypted")
    return Chosen(entry, manifest, parse_config(fetch(manifest.config), len(manifest.layers)))


def attestations(found: list[Leaf], chosen: Descriptor) -> Iterator[Descriptor]:
    """Yield what an index says about one of its manifests."""
    for leaf in found:
        entry = leaf.descriptor
        if platforms.is_attestation(entry) and entry.annotations.get(platforms.ATTESTS, chosen.digest) == chosen.digest:
            yield entry


def parts(manifest: Manifest) -> list[Descriptor]:
    """Return the blobs of a manifest, each once."""
    return list({each.digest: each for each in (manifest.config, *manifest.layers)}.values())
