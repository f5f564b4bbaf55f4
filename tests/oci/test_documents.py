"""Documents: parsed strictly, from strangers."""

import json

import pytest

from layerfs.errors import LayerfsError
from layerfs.oci.documents import INDEX, MANIFEST, Index, Manifest, parse_config, parse_document, parse_json

D = {"mediaType": "x", "digest": "sha256:" + "a" * 64, "size": 1}


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"1", b'{"a": 1, "a": 1}', b'{"a": {"b": 1, "b": 2}}', b'{"a": NaN}', b"{\xff}", b"[" * 100_000,
     b'{"a": ' + b"[" * 100_000, b" " * (5 << 20), b'{"a": 1} x'],
)  # fmt: skip
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(LayerfsError):
        parse_json(data)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"manifests": [], "layers": []}, ""), ({"manifests": [], "config": D}, ""), ({}, ""), ({"layers": []}, ""),
        ({"config": D, "mediaType": INDEX}, INDEX), ({"manifests": [], "mediaType": MANIFEST}, ""),
        ({"config": D, "mediaType": MANIFEST}, INDEX), ({"manifests": {}}, ""), ({"config": D, "layers": [1]}, ""),
        ({"config": D, "layers": [D | {"size": True}]}, ""), ({"config": D, "layers": [D | {"size": 1.0}]}, ""),
        ({"config": D, "layers": [D | {"annotations": {"a": 1}}]}, ""), ({"config": D, "layers": [D] * 1001}, ""),
        ({"schemaVersion": 1, "config": D}, ""), ({"fsLayers": []}, ""), ({"mediaType": 5, "config": D}, ""),
        ({"manifests": [D | {"platform": 5}]}, ""),
    ],
)  # fmt: skip
def test_document_that_lies_is_refused(document: dict[str, object], said: str) -> None:
    with pytest.raises(LayerfsError):
        parse_document(json.dumps(document).encode(), said)


def test_documents_without_a_media_type_are_known_by_what_is_in_them() -> None:
    assert isinstance(parse_document(json.dumps({"config": D, "layers": [D]}).encode()), Manifest)
    assert isinstance(parse_document(json.dumps({"manifests": [D]}).encode()), Index)


@pytest.mark.parametrize(
    "rootfs", [None, {}, {"type": "x", "diff_ids": []}, {"type": "layers"}, {"type": "layers", "diff_ids": ["a"]}]
)
def test_config_without_the_layers_is_refused(rootfs: object) -> None:
    with pytest.raises(LayerfsError):
        parse_config(json.dumps({"rootfs": rootfs}).encode(), 1)
