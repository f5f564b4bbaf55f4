"""Manifests, indexes and configs: JSON of strangers, parsed once, from exactly the bytes that were hashed.

Keys that come twice are refused: two readers would see two documents. Media types are kept as they are; docker's and
OCI's mean the same.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from layerfs.errors import Corrupt, Unsupported
from layerfs.oci.digest import Digest, parse_digest
from layerfs.store.info import NOTHING
from layerfs.value import value

DOCUMENT_MAX: Final = 4 << 20  # bytes; what registries take for a manifest
BLOB_MAX: Final = 1 << 40  # bytes; more than any layer
LAYERS_MAX: Final = 1000  # guessed: kernel overlayfs has at most 500 lowers

INDEX: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
EMPTY_CONFIG: Final = "application/vnd.oci.empty.v1+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
INDEXES: Final = (INDEX, DOCKER_INDEX)
MANIFESTS: Final = (MANIFEST, DOCKER_MANIFEST)
IMAGE_CONFIGS: Final = (CONFIG, DOCKER_CONFIG)
REF_NAME: Final = "org.opencontainers.image.ref.name"
IMAGE_NAME: Final = "io.containerd.image.name"

Json = Mapping[str, Any]


@value
class Platform:
    """For which machines an image is."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


@value
class Descriptor:
    """What a document says of a blob: its type, name and length [bytes]. `raw` is all of it."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = NOTHING
    raw: Json = NOTHING


@value
class Index:
    """Several manifests, or further indexes."""

    manifests: tuple[Descriptor, ...]
    raw: Json


@value
class Manifest:
    """One image, or an artifact."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    raw: Json

    @property
    def is_image(self) -> bool:
        """Whether it has a root filesystem to unpack."""
        return self.config.media_type in IMAGE_CONFIGS and not self.raw.get("artifactType")


@value
class ImageConfig:
    """An image's config: what its layers are, and how it is run (`run`, the spec's "config")."""

    platform: Platform
    diff_ids: tuple[Digest, ...]
    run: Json
    raw: Json


def parse_json(data: bytes) -> Json:
    """Return a JSON object. Raises Corrupt."""
    found = parse_any(data)
    if not isinstance(found, dict):
        raise Corrupt("a document of an image is no JSON object")
    return found


def parse_any(data: bytes) -> Any:
    """Return any JSON. Raises Corrupt."""
    if len(data) > DOCUMENT_MAX:
        raise Corrupt(f"a document of {len(data)} bytes is too large for an image")
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"a document of an image is no JSON: {str(error)[:100]}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Corrupt("a document of an image has a key twice")
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def dump_json(document: Json) -> bytes:
    """Return a document's bytes; the same for the same content."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def parse_document(data: bytes, media_type: str = "") -> Index | Manifest:
    """Return an index or a manifest. Raises Corrupt, Unsupported for what is neither.

    media_type: what the descriptor or the registry said; a document that says otherwise is refused.
    """
    raw = parse_json(data)
    said = raw.get("mediaType", "")
    if not isinstance(said, str) or (said and media_type in INDEXES + MANIFESTS and said != media_type):
        raise Corrupt(f"a document says it is {said!r}, and was said to be {media_type!r}")
    if raw.get("schemaVersion") == 1 or "fsLayers" in raw:
        raise Unsupported("the image has a manifest of schema 1", "have it pushed again by a program of this decade")
    kind = said or media_type
    if "manifests" in raw and ("layers" in raw or "config" in raw):  # CVE-2021-41190
        raise Corrupt("a document is an index and a manifest at once")
    if "manifests" in raw and kind not in MANIFESTS:
        return Index(tuple(descriptor(each) for each in _list(raw, "manifests")), raw)
    if "config" in raw and kind not in INDEXES:
        layers = _list(raw, "layers") if "layers" in raw else []
        if len(layers) > LAYERS_MAX:
            raise Corrupt(f"an image has {len(layers)} layers")
        return Manifest(descriptor(raw["config"]), tuple(descriptor(each) for each in layers), raw)
    raise Corrupt("a document is neither an index nor a manifest")


def descriptor(raw: Any) -> Descriptor:
    """Return a descriptor. Raises Corrupt, InvalidArgument."""
    if not isinstance(raw, dict) or not isinstance(raw.get("mediaType", ""), str):
        raise Corrupt("a descriptor is none")
    size = raw.get("size")
    if type(size) is not int or not 0 <= size <= BLOB_MAX:
        raise Corrupt(f"a descriptor has size {size!r:.50}")
    annotations = raw.get("annotations") or {}
    if not isinstance(annotations, dict) or not all(isinstance(value, str) for value in annotations.values()):
        raise Corrupt("a descriptor has annotations that are no texts")
    platform = raw.get("platform")
    return Descriptor(
        raw.get("mediaType", ""),
        parse_digest(raw.get("digest")),
        size,
        None if platform is None else _platform(platform),
        annotations,
        raw,
    )


def _platform(raw: Any) -> Platform:
    words = [raw.get(key) or "" for key in ("os", "architecture", "variant")] if isinstance(raw, dict) else [None]
    if not all(isinstance(word, str) for word in words):
        raise Corrupt("a platform is none")
    return Platform(*map(str, words))


def _list(raw: Json, key: str) -> Sequence[Any]:
    found = raw.get(key)
    if not isinstance(found, list):
        raise Corrupt(f"a document has {key} that are no list")
    return found


def parse_config(data: bytes, layers: int) -> ImageConfig:
    """Return an image's config, which must name a DiffID for each layer. Raises Corrupt."""
    raw = parse_json(data)
    rootfs = raw.get("rootfs")
    if not isinstance(rootfs, dict) or rootfs.get("type") != "layers":
        raise Corrupt("the image's config has no rootfs")
    diff_ids = tuple(parse_digest(each) for each in _list(rootfs, "diff_ids") or ())
    if len(diff_ids) != layers:
        raise Corrupt(f"the image has {layers} layers, and its config names {len(diff_ids)}")
    run = raw.get("config") or {}
    if not isinstance(run, dict):
        raise Corrupt("the image's config has a config that is no object")
    return ImageConfig(_platform(raw), diff_ids, run, raw)
