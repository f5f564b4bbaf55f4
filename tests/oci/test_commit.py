"""Images of snapshots."""

import os
from pathlib import Path

import pytest

from layerfs.errors import LayerfsError
from layerfs.oci.commit import NewImage, commit
from layerfs.oci.images import Images
from layerfs.snapshots.library import Store
from tests.oci.image import Made
from tests.oci.test_intake import take, tops_name

RECIPE = NewImage(created="2026-01-01T00:00:00Z")


def test_same_snapshot_gives_the_same_image(store: Store, scratch: Path) -> None:
    take(store, Made().layout(scratch / "i"))
    snapshots, images = store.snapshotter("overlay"), Images(store)
    snapshots.prepare("work", tops_name())
    (Path(os.fsdecode(snapshots.layer("work").path)) / "new").write_bytes(b"n")
    one = commit(images, snapshots, "work", "a:1", RECIPE)
    two = commit(images, snapshots, "work", "a:2", RECIPE)
    assert one.image.top == two.image.top
    config = images.load(one.image).config
    assert config is not None and config.diff_ids[-1] == one.layer.diff_id
    assert len(config.diff_ids) == 3


def test_image_from_nothing_and_from_a_stranger(store: Store) -> None:
    snapshots, images = store.snapshotter("overlay"), Images(store)
    snapshots.prepare("work")
    (Path(os.fsdecode(snapshots.layer("work").path)) / "f").write_bytes(b"f")
    done = commit(images, snapshots, "work", "a", RECIPE)
    assert images.load(done.image).config is not None
    snapshots.commit("other", "work")
    snapshots.prepare("more", "other")
    with pytest.raises(LayerfsError, match="of no image"):
        commit(images, snapshots, "more", "b", RECIPE)
