"""XARs as artifacts."""

import json
import os
from pathlib import Path

import pytest

from layerfs.errors import LayerfsError
from layerfs.oci.artifacts import TYPE, add_packages, write_packages
from layerfs.oci.images import Images
from layerfs.snapshots.library import Store
from tests.oci.image import MANIFEST, Made
from tests.oci.test_intake import take


def test_files_come_back_as_they_were(store: Store, scratch: Path) -> None:
    for name in ("a.xar", "b.xar"):
        (scratch / name).write_bytes(name.encode() * 1000)
    images = Images(store)
    image = add_packages(images, "h.x/p:1", [bytes(scratch / "a.xar"), bytes(scratch / "b.xar")])
    written = write_packages(images, image, bytes(scratch / "out"))
    assert [os.path.basename(path) for path in written] == [b"a.xar", b"b.xar"]
    assert (scratch / "out/b.xar").read_bytes() == b"b.xar" * 1000
    assert os.access(scratch / "out/a.xar", os.X_OK)


@pytest.mark.parametrize("title", ["", "..", "../x", "/etc/x", "a\0b"])
def test_name_that_leads_elsewhere_is_refused(title: str, store: Store, scratch: Path) -> None:
    made = Made([])
    layer = made.descriptor(b"data", "x", annotations={"org.opencontainers.image.title": title})
    config = made.descriptor(b"{}", "application/vnd.oci.empty.v1+json")
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": TYPE, "config": config, "layers": [layer]}
    top = made.descriptor(
        json.dumps(document).encode(), MANIFEST, annotations={"org.opencontainers.image.ref.name": "p:1"}
    )
    take(store, made.layout(scratch / "i", top), driver=None)
    with pytest.raises(LayerfsError):
        write_packages(Images(store), Images(store).get("p:1"), bytes(scratch / "out"))
    assert not (scratch / "out").exists()


def test_image_is_no_package(store: Store, scratch: Path) -> None:
    take(store, Made().layout(scratch / "i"), driver=None)
    with pytest.raises(LayerfsError, match="no package"):
        write_packages(Images(store), Images(store).get("made:1"), bytes(scratch / "out"))
