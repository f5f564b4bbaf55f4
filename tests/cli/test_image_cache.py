"""`layerfs image cache`."""

from pathlib import Path

import pytest

from layerfs.oci.cached import name_of
from tests.cli.images import Shop


@pytest.mark.parametrize("snapshotter", ["overlay", "xar"])
def test_each_layer_of_an_image_becomes_a_package(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, snapshotter: str
) -> None:
    monkeypatch.setenv("LAYERFS_CACHE", str(shop.place / "cache"))
    name = shop.imported()
    said = shop.run("image", "cache", "--snapshotter", snapshotter, name).stdout
    assert "stored 2 of 2 layers" in said
    chains = {each.partition("/")[2] for each in shop.json("image", "inspect", name)["snapshots"]}
    assert {path.name.encode() for path in Path(shop.place / "cache/packages").iterdir()} == set(map(name_of, chains))
    assert "stored 0 of 2 layers" in shop.run("image", "cache", "--snapshotter", snapshotter, name).stdout
