"""Documents walked from an image's top."""

import json

import pytest

from layerfs.errors import Corrupt
from layerfs.oci.closure import checked, leaves
from layerfs.oci.digest import digest_of
from layerfs.oci.documents import INDEX, MANIFEST, Descriptor

BLOBS: dict[str, bytes] = {}


def stored(document: object, kind: str) -> dict[str, object]:
    data = json.dumps(document).encode()
    BLOBS[digest_of(data)] = data
    return {"mediaType": kind, "digest": digest_of(data), "size": len(data)}


def described(raw: dict[str, object]) -> Descriptor:
    return Descriptor(str(raw["mediaType"]), digest_of(BLOBS[str(raw["digest"])]), len(BLOBS[str(raw["digest"])]))


def fetch(wanted: Descriptor) -> bytes:
    return checked(BLOBS[wanted.digest], wanted)


def nested(depth: int) -> Descriptor:
    at = stored({"schemaVersion": 2, "config": {}}, MANIFEST)
    for _ in range(depth):
        at = stored({"schemaVersion": 2, "manifests": [at]}, INDEX)
    return described(at)


def test_index_in_index_is_entered_within_bounds() -> None:
    (leaf,) = leaves(nested(4), fetch)
    assert (leaf.descriptor.media_type, len(leaf.above)) == (MANIFEST, 4)
    with pytest.raises(Corrupt, match="in each other"):
        leaves(nested(5), fetch)


def test_too_many_manifests_are_refused() -> None:
    one = stored({"schemaVersion": 2, "config": {}}, MANIFEST)
    with pytest.raises(Corrupt, match="more than"):
        leaves(described(stored({"schemaVersion": 2, "manifests": [one] * 501}, INDEX)), fetch)


def test_other_bytes_are_refused() -> None:
    top = nested(1)
    with pytest.raises(Corrupt):
        checked(BLOBS[top.digest] + b" ", top)
