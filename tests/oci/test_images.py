"""Records of images."""

from pathlib import Path

import pytest

from layerfs.errors import NotFound
from layerfs.oci.images import Images
from layerfs.snapshots.library import Store
from tests.oci.image import Made
from tests.oci.test_intake import take


def test_replacing_a_name_gives_up_what_only_the_old_image_had(store: Store, scratch: Path) -> None:
    take(store, Made().layout(scratch / "a"))
    other = Made(Made().layers[:1])
    take(store, other.layout(scratch / "b"))
    assert len(list(store.snapshotter("overlay").walk())) == 1
    with pytest.raises(NotFound):
        Images(store).get("nothing")


def test_snapshot_with_a_child_survives_its_image(store: Store, scratch: Path) -> None:
    take(store, Made().layout(scratch / "a"))
    snapshots = store.snapshotter("overlay")
    top = next(info.name for info in snapshots.walk() if not any(c.parent == info.name for c in snapshots.walk()))
    snapshots.prepare("mine", top)
    Images(store).remove("made:1")
    assert snapshots.stat(top)
    assert store.content.all() == []
