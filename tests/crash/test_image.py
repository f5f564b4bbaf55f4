"""`layerfs image import` and `layerfs pull` killed before any step: what is left is found by the next one, or goes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.cli.main import main
from layerfs.oci.images import Images
from layerfs.snapshots.library import Store, open_store
from layerfs.snapshots.maintenance import check, collect
from tests.crash.steps import killed_at
from tests.host import require
from tests.oci.image import Made
from tests.oci.registries import Naughty
from tests.oci.tars import END, directory, file, link

LAYERS = [
    directory(b"d") + file(b"d/a", b"a" * 2_000_000) + END,
    file(b"d/b", b"b") + file(b"d/.wh.a") + END,
    link(b"l", b"d/b") + directory(b"e") + END,
]
STRIDE = 61  # of the steps, of which there are some hundred; all of them pass, in some minutes


@pytest.fixture(params=["image import", "pull"])
def command(request: pytest.FixtureRequest, scratch: Path) -> Iterator[list[str]]:
    """The words of the command."""
    require("root", "kernel overlay")
    made = Made(LAYERS)
    if request.param == "image import":
        yield ["image", "import", str(made.layout(scratch / "image"))]
        return
    with Naughty().running() as registry:
        top = made.finish()
        registry.store(made.blobs, "1", top)
        yield ["pull", "--insecure", f"{registry.host}/repo:1"]


def left(store: Store, driver: str) -> list[str]:
    """All that is in a store."""
    root = Path(os.fsdecode(store.root), "drivers", driver)
    found = [f"{name}/{entry}" for name in ("making", "trash", "snapshots") for entry in os.listdir(root / name)]
    found += [info.name for info in store.snapshotter(driver).walk()]
    found += [blob.digest for blob in store.content.all()]
    return found + [image.name for image in Images(store).all()]


@pytest.mark.parametrize("driver", ["overlay", "xar"])
def test_killed_import_goes_on_or_vanishes(
    driver: str, command: list[str], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*command, "--snapshotter", driver]
    was_killed, step = True, 0
    while was_killed:
        root = scratch / f"store{step}"
        monkeypatch.setenv("LAYERFS_ROOT", str(root))
        was_killed = killed_at(step, lambda: main(words))
        with open_store(root) as store:
            assert check(store, repair=False) == [], f"step {step}"
            if step % 2 and not Images(store).all():  # vanishes
                collect(store)
                store.snapshotter(driver)
                assert left(store, driver) == [], f"step {step}"
            assert main(words) == 0
            assert check(store, repair=False) == [], f"step {step}"
            (image,) = Images(store).all()
            assert Images(store).load(image).config is not None
            Images(store).remove(image.name)
            collect(store)
            assert left(store, driver) == [], f"step {step}"
        step += STRIDE
    assert step > 3 * STRIDE
