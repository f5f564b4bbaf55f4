"""Images read again."""

import zlib
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument
from layerfs.oci.export import export
from layerfs.oci.images import Images
from layerfs.oci.target import Limits
from layerfs.oci.verify import verify
from layerfs.snapshots.library import Store
from tests.oci.image import LAYERS, Made, digest
from tests.oci.tars import END, file
from tests.oci.test_intake import take


def test_missing_parts_are_named(store: Store, scratch: Path) -> None:
    take(store, Made().layout(scratch / "i"))
    images = Images(store)
    image = images.get("made:1")
    assert verify(images, image) == []
    store.content.remove(digest(LAYERS[0]))
    assert digest(LAYERS[0]) in {name for name, _ in verify(images, image)}


def test_bombs_end_at_the_limit(store: Store, scratch: Path) -> None:
    """A layer was unpacked to its end, by the verification and on its way into a docker-archive, whatever it became."""
    layer = file(b"f", bytes(30_000_000)) + END
    take(store, Made([layer], [packed := zlib.compress(layer, wbits=31)]).layout(scratch / "i"))
    images = Images(store)
    image, limits = images.get("made:1"), Limits(size=1_000_000)
    ((blob, why),) = verify(images, image, limits=limits)
    assert (blob, "more than 1000000 bytes" in why) == (digest(packed), True)
    with pytest.raises(InvalidArgument, match="more than 1000000 bytes"):
        export(images, image, bytes(scratch / "out"), "docker", limits=limits)
    assert not (scratch / "out").exists()
