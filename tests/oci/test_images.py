"""Records of images."""

from pathlib import Path

import pytest

from layerfs.errors import NotFound
from layerfs.oci.images import Images
from layerfs.oci.unpack import chain_ids
from layerfs.snapshots.leftovers import unpacking
from layerfs.snapshots.library import Store
from layerfs.snapshots.maintenance import collect
from layerfs.snapshots.snapshotter import Snapshotter
from layerfs.store.info import Info
from tests.oci.image import Made, digest
from tests.oci.tars import END, file
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


def test_snapshot_that_a_client_committed_under_the_chain_id_is_the_clients(store: Store, scratch: Path) -> None:
    """It went with the image that had found it there."""
    snapshots = store.snapshotter("overlay")
    name = chain_ids([digest(Made().layers[0])])[-1]  # type: ignore[list-item]
    snapshots.prepare("client")
    snapshots.commit(name, "client", {"containerd.io/snapshot.ref": name})
    take(store, Made().layout(scratch / "a"))
    Images(store).remove("made:1")
    assert [info.name for info in snapshots.walk()] == [name]


def test_what_somebody_unpacks_just_now_keeps_its_snapshots(store: Store, scratch: Path) -> None:
    take(store, Made().layout(scratch / "a"))
    with unpacking(store):
        Images(store).remove("made:1")
        assert len(list(store.snapshotter("overlay").walk())) == 2
    collect(store)
    assert (list(store.snapshotter("overlay").walk()), store.content.all()) == ([], [])


def test_removal_asks_for_each_snapshot_once(store: Store, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How deep each of them is was counted step by step: 200 layers took 20,000 questions."""
    count = 30
    layers = [file(b"f%d" % number) + END for number in range(count)]
    take(store, Made(layers).layout(scratch / "i"))
    asked: list[str] = []
    stat = Snapshotter.stat

    def counted(self: Snapshotter, key: str) -> Info:
        asked.append(key)
        return stat(self, key)

    monkeypatch.setattr(Snapshotter, "stat", counted)
    Images(store).remove("made:1")
    assert len(asked) <= 2 * count
    assert list(store.snapshotter("overlay").walk()) == []
