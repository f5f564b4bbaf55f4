"""Layers into snapshots and out of them, through the diff service and a content store of the test."""

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from layerfs.daemon.calls import Call
from layerfs.daemon.content import ContentStore
from layerfs.daemon.convert import mounts_of
from layerfs.daemon.diffs import GZIPPED, UNCOMPRESSED, Diffs
from layerfs.daemon.messages import DIFF, message
from layerfs.daemon.served_store import ServedStore
from layerfs.errors import InvalidArgument, LayerfsError, Unsupported
from layerfs.model import Mount
from tests.daemon.test_content import Store, serving


class Scene:
    """A served store, a content store, and the diff service between them."""

    def __init__(self, served_store: ServedStore, store: Store, content: ContentStore) -> None:
        self.served_store, self.store = served_store, store
        self.diffs = Diffs(served_store, content)

    def apply(self, blob: bytes, mounts: tuple[Mount, ...]) -> Any:
        digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
        self.store.blobs[digest] = blob
        request = message(DIFF, "ApplyRequest")(mounts=mounts_of(mounts))
        request.diff.digest = digest
        return self.diffs.Apply(request, Call("default")).applied

    def diff(self, left: tuple[Mount, ...], right: tuple[Mount, ...], kind: str = "") -> Any:
        request = message(DIFF, "DiffRequest")(left=mounts_of(left), right=mounts_of(right), media_type=kind, ref="r")
        return self.diffs.Diff(request, Call("default")).diff


@pytest.fixture
def scene(served_store: ServedStore, scratch: Path) -> Iterator[Scene]:
    store = Store()
    with serving(store, scratch / "c.sock"):
        content = ContentStore(str(scratch / "c.sock"))
        yield Scene(served_store, store, content)
        content.close()


def layer(before: int = 0, **files: str) -> bytes:
    """A tar of files; `before` adds an empty one with that time [s]."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        if before:
            member = tarfile.TarInfo("before")
            member.mtime = before
            tar.addfile(member)
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return made.getvalue()


@pytest.mark.parametrize("driver", ["layerfs-overlay", "layerfs-fuse"])
def test_a_layer_goes_in_and_comes_out(scene: Scene, driver: str) -> None:
    snapshotter = scene.served_store.snapshotter(driver)
    tar = layer(a="1", b="2")
    applied = scene.apply(gzip.compress(tar), snapshotter.prepare("x"))
    assert (applied.digest, applied.size) == (f"sha256:{hashlib.sha256(tar).hexdigest()}", len(tar))
    snapshotter.commit("base", "x")
    top = snapshotter.prepare("y", "base")
    scene.apply(layer(0, **{".wh.a": "", "c": "3"}), top)
    found = scene.diff(snapshotter.view("v", "base"), top)
    assert found.media_type == GZIPPED
    with tarfile.open(fileobj=io.BytesIO(scene.store.blobs[found.digest]), mode="r:gz") as made:
        assert made.getnames() == [".wh.a", "c"]
    tar_digest = hashlib.sha256(gzip.decompress(scene.store.blobs[found.digest])).hexdigest()
    assert scene.store.labels[found.digest] == {UNCOMPRESSED: f"sha256:{tar_digest}"}


def test_a_layer_becomes_an_image_where_the_driver_takes_one(scene: Scene) -> None:
    snapshotter = scene.served_store.snapshotter("layerfs-xar")
    scene.apply(gzip.compress(layer(a="1")), snapshotter.prepare("x"))
    snapshotter.commit("base", "x")
    place = Path(os.fsdecode(snapshotter.layer("base").path))
    assert place.name == "layer.xar"
    assert os.listdir(place.parent / "empty") == []
    assert not (place.parent / "fs").exists()
    assert snapshotter.usage("base").inodes == 1
    scene.apply(layer(0, **{".wh.a": "", "c": "3"}), snapshotter.prepare("y", "base"))
    snapshotter.commit("top", "y")
    found = scene.diff(snapshotter.view("v", "base"), snapshotter.view("w", "top"))
    with tarfile.open(fileobj=io.BytesIO(scene.store.blobs[found.digest]), mode="r:gz") as made:
        assert made.getnames() == [".wh.a", "c"]


def test_a_layer_that_no_image_holds_is_written_as_files(scene: Scene) -> None:
    snapshotter = scene.served_store.snapshotter("layerfs-xar")
    scene.apply(gzip.compress(layer(before=-1, a="1")), snapshotter.prepare("x"))
    shown = Path(os.fsdecode(snapshotter.layer("x").path))
    assert {path.name: path.stat().st_mtime for path in shown.iterdir()} == {"a": 0, "before": -1}


def test_an_image_hides_no_files_that_a_client_wrote(scene: Scene) -> None:
    mounts = scene.served_store.snapshotter("layerfs-xar").prepare("x")
    (Path(mounts[0].source) / "mine").write_text("kept")
    with pytest.raises(InvalidArgument, match="not empty"):
        scene.apply(layer(a="1"), mounts)
    assert (Path(mounts[0].source) / "mine").read_text() == "kept"


def test_a_layer_that_is_not_what_it_says_leaves_nothing(scene: Scene) -> None:
    snapshotter = scene.served_store.snapshotter("layerfs-overlay")
    mounts = snapshotter.prepare("x")
    blob = layer(a="1")
    digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    scene.store.blobs[digest] = blob + b"more"
    request = message(DIFF, "ApplyRequest")(mounts=mounts_of(mounts))
    request.diff.digest = digest
    with pytest.raises(LayerfsError):
        scene.diffs.Apply(request, Call("default"))
    assert list(Path(mounts[0].source).iterdir()) == []


def test_what_is_not_ours_is_left_to_the_next_differ(scene: Scene, scratch: Path) -> None:
    elsewhere = (Mount("bind", str(scratch), ("rw",)),)
    with pytest.raises(Unsupported):
        scene.apply(layer(a="1"), elsewhere)
    ours = scene.served_store.snapshotter("layerfs-overlay").prepare("x")
    for left, right in ((elsewhere, ours), (ours, elsewhere)):
        with pytest.raises(Unsupported):
            scene.diff(left, right)
    with pytest.raises(Unsupported, match="cannot be made"):
        scene.diff((), ours, "application/json")


def test_a_call_that_nobody_waits_for_stops(scene: Scene) -> None:
    mounts = scene.served_store.snapshotter("layerfs-overlay").prepare("x")
    request = message(DIFF, "ApplyRequest")(mounts=mounts_of(mounts))
    blob = layer(a="1")
    request.diff.digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    scene.store.blobs[request.diff.digest] = blob
    call = Call("default")
    call.cancel()
    with pytest.raises(LayerfsError, match="client has gone"):
        scene.diffs.Apply(request, call)
