"""Which snapshotter a request means, and which snapshot mounts show."""

import pytest

from layerfs.daemon.served_store import ServedStore
from layerfs.errors import NotFound, Unsupported
from layerfs.model import Mount
from tests.waiting import wait_until


@pytest.mark.parametrize("name", ["layerfs-overlay", "overlay"])
def test_a_name_means_a_driver(served_store: ServedStore, name: str) -> None:
    assert served_store.snapshotter(name).name == "overlay"


@pytest.mark.parametrize("name", ["", "layerfs"])
def test_no_name_means_the_default(served_store: ServedStore, name: str) -> None:
    served_store.default = "fuse"
    assert served_store.snapshotter(name).name == "fuse"


@pytest.mark.parametrize("name", ["nosuch", "layerfs-", "layerfs-../x", "../../etc"])
def test_other_names_are_refused(served_store: ServedStore, name: str) -> None:
    with pytest.raises(NotFound, match="layerfs-overlay"):
        served_store.snapshotter(name)


@pytest.mark.parametrize("driver", ["layerfs-overlay", "layerfs-fuse"])
def test_mounts_lead_to_their_snapshot(served_store: ServedStore, driver: str) -> None:
    snapshotter = served_store.snapshotter(driver)
    first = snapshotter.prepare("a")
    snapshotter.commit("base", "a")
    mounts = snapshotter.prepare("b c:d", "base")
    snapshotter.prepare("other", "base")
    found, key = served_store.shown_by(mounts)
    assert (found.name, key) == (snapshotter.name, "b c:d")
    with pytest.raises(Unsupported):
        served_store.shown_by(first)


def test_mounts_lead_to_their_snapshot_when_what_is_below_was_packed_meanwhile(served_store: ServedStore) -> None:
    snapshotter = served_store.snapshotter("layerfs-xar")
    snapshotter.prepare("a")
    snapshotter.commit("base", "a")
    wait_until(lambda: snapshotter.layer("base").path.endswith(b".xar"))
    (mount,) = snapshotter.prepare("b", "base")
    before = tuple(word.replace("layer.xar", "fs") for word in mount.options)
    assert before != mount.options
    assert served_store.shown_by((Mount(mount.type, mount.source, before),)) == (snapshotter, "b")


def test_mounts_that_only_look_like_ours_are_not(served_store: ServedStore) -> None:
    snapshotter = served_store.snapshotter("layerfs-overlay")
    (mount,) = snapshotter.prepare("a")
    forged = Mount(mount.type, f"{mount.source}/../../../elsewhere", mount.options)
    for mounts in ((forged,), (mount, mount), (Mount("bind", "/etc", ("rw",)),), ()):
        with pytest.raises(Unsupported):
            served_store.shown_by(mounts)


def test_numbers_count_by_kind(served_store: ServedStore) -> None:
    snapshotter = served_store.snapshotter("layerfs-overlay")
    snapshotter.prepare("a")
    snapshotter.commit("base", "a")
    snapshotter.view("v", "base")
    assert served_store.counts()["overlay"].kinds == {"view": 1, "active": 0, "committed": 1}
