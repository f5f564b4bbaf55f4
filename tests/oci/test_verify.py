"""Images read again."""

from pathlib import Path

from layerfs.oci.images import Images
from layerfs.oci.verify import verify
from layerfs.snapshots.library import Store
from tests.oci.image import LAYERS, Made, digest
from tests.oci.test_intake import take


def test_missing_parts_are_named(store: Store, scratch: Path) -> None:
    take(store, Made().layout(scratch / "i"))
    images = Images(store)
    image = images.get("made:1")
    assert verify(images, image) == []
    store.content.remove(digest(LAYERS[0]))
    assert digest(LAYERS[0]) in {name for name, _ in verify(images, image)}
