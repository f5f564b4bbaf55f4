"""A disk that is full in the middle of it: one sentence, nothing half, and the next try works when there is room."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerfs.errors import FULL
from layerfs.oci.commit import NewImage, commit
from layerfs.oci.digest import digest_of
from layerfs.oci.export import export
from layerfs.oci.images import Images
from layerfs.oci.intake import IntakeOptions
from layerfs.oci.transfer import pull
from layerfs.oci.unpack import chain_ids
from layerfs.snapshots.library import Store, open_store
from layerfs.snapshots.maintenance import check
from tests.host import require
from tests.oci.image import Made
from tests.oci.registries import Naughty
from tests.oci.tars import END, file
from tests.oci.test_intake import take

LAYERS = [
    b"".join(file(b"f%d" % number, os.urandom(30_000)) for number in range(30)) + END,
    file(b"big", os.urandom(900_000)) + END,
]
TOP = chain_ids([digest_of(layer) for layer in LAYERS])[-1]


@pytest.fixture
def disk(scratch: Path) -> Iterator[Path]:
    """A filesystem of 16 MiB."""
    require("root", "kernel overlay")
    place = scratch / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def fill(disk: Path, left: int) -> None:
    """Leave so many bytes free."""
    found = os.statvfs(disk)
    with (disk / "ballast").open("wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, found.f_bavail * found.f_frsize - left)


@pytest.mark.parametrize("driver", ["overlay", "xar"])
@pytest.mark.parametrize("what", ["import", "pull", "export", "commit"])
def test_full_disk_leaves_nothing_half(what: str, driver: str, disk: Path, scratch: Path) -> None:
    made = Made(LAYERS)
    top = made.finish(annotations={"org.opencontainers.image.ref.name": "made:1"})
    layout = made.layout(scratch / "layout", top)
    with open_store(disk / "store") as store, Naughty().running() as registry:
        registry.store(made.blobs, "1", top)
        images, snapshots = Images(store), store.snapshotter(driver)
        if what in ("export", "commit"):
            take(store, layout, driver=driver)
            snapshots.prepare("work", TOP)
            Path(os.fsdecode(snapshots.writable_layer("work").path), "new").write_bytes(os.urandom(900_000))
        act = ACTS[what](store, layout, f"{registry.host}/repo:1", driver, disk)
        before = [image.name for image in images.all()], [blob.digest for blob in store.content.all()]
        failed = 0
        for left in (4096, 200_000, 800_000, 1_500_000, 2_500_000):
            fill(disk, left)
            try:
                act()
            except OSError as error:
                assert error.errno in FULL
                failed += 1
                assert ([image.name for image in images.all()], [b.digest for b in store.content.all()]) == before
                assert not (disk / "out").exists()
            else:
                break
            finally:
                (disk / "ballast").unlink()
            assert check(store, repair=False, progress=lambda done, total: None) == []
        assert failed >= 2
        act()


def importing(store: Store, layout: Path, name: str, driver: str, disk: Path) -> Callable[[], object]:
    return lambda: take(store, layout, driver=driver)


def pulling(store: Store, layout: Path, name: str, driver: str, disk: Path) -> Callable[[], object]:
    return lambda: pull(Images(store), name, IntakeOptions(snapshotter=store.snapshotter(driver)), insecure=True)


def exporting(store: Store, layout: Path, name: str, driver: str, disk: Path) -> Callable[[], object]:
    images = Images(store)
    return lambda: export(images, images.get("made:1"), os.fsencode(disk / "out"), "oci")


def committing(store: Store, layout: Path, name: str, driver: str, disk: Path) -> Callable[[], object]:
    return lambda: commit(
        Images(store), store.snapshotter(driver), "work", "new:1", NewImage(created="2026-01-01T00:00:00Z")
    )


ACTS = {"import": importing, "pull": pulling, "export": exporting, "commit": committing}
