"""Images out of a store."""

from pathlib import Path

import pytest

from layerfs.errors import LayerfsError
from layerfs.oci.export import export
from layerfs.oci.images import Images
from layerfs.snapshots.library import Store
from tests.oci.image import Made
from tests.oci.test_intake import take


@pytest.mark.parametrize("format_", ["oci", "docker"])
def test_export_is_repeatable_and_all_or_nothing(format_: str, store: Store, scratch: Path) -> None:
    take(store, Made().layout(scratch / "i"), driver=None)
    images = Images(store)
    image = images.get("made:1")
    for name in ("a", "b"):
        export(images, image, bytes(scratch / name), format_)
    assert (scratch / "a").read_bytes() == (scratch / "b").read_bytes()
    layer = images.load(image).manifest.layers[0]
    store.content.remove(layer.digest)
    with pytest.raises(LayerfsError):
        export(images, image, bytes(scratch / "c"), format_)
    assert not (scratch / "c").exists()


def test_directory_must_be_empty(store: Store, scratch: Path) -> None:
    take(store, Made().layout(scratch / "i"), driver=None)
    with pytest.raises(LayerfsError):
        export(Images(store), Images(store).get("made:1"), bytes(scratch / "i"), "oci-dir")
