"""Which snapshotter a request means, and which snapshot mounts show."""

import pytest

from layerfs.daemon.node import Node
from layerfs.errors import NotFound, Unsupported
from layerfs.model import Mount
from tests.waiting import wait_until


@pytest.mark.parametrize("name", ["layerfs-overlay", "overlay"])
def test_a_name_means_a_driver(node: Node, name: str) -> None:
    assert node.snapshotter(name).name == "overlay"


@pytest.mark.parametrize("name", ["", "layerfs"])
def test_no_name_means_the_default(node: Node, name: str) -> None:
    node.default = "fuse"
    assert node.snapshotter(name).name == "fuse"


@pytest.mark.parametrize("name", ["nosuch", "layerfs-", "layerfs-../x", "../../etc"])
def test_other_names_are_refused(node: Node, name: str) -> None:
    with pytest.raises(NotFound, match="layerfs-overlay"):
        node.snapshotter(name)


@pytest.mark.parametrize("driver", ["layerfs-overlay", "layerfs-fuse"])
def test_mounts_lead_to_their_snapshot(node: Node, driver: str) -> None:
    snapshotter = node.snapshotter(driver)
    first = snapshotter.prepare("a")
    snapshotter.commit("base", "a")
    mounts = snapshotter.prepare("b c:d", "base")
    snapshotter.prepare("other", "base")
    found, key = node.shown_by(mounts)
    assert (found.name, key) == (snapshotter.name, "b c:d")
    with pytest.raises(Unsupported):
        node.shown_by(first)


def test_mounts_lead_to_their_snapshot_when_what_is_below_was_packed_meanwhile(node: Node) -> None:
    snapshotter = node.snapshotter("layerfs-xar")
    snapshotter.prepare("a")
    snapshotter.commit("base", "a")
    wait_until(lambda: snapshotter.layer("base").path.endswith(b".xar"))
    (mount,) = snapshotter.prepare("b", "base")
    before = tuple(word.replace("layer.xar", "fs") for word in mount.options)
    assert before != mount.options
    assert node.shown_by((Mount(mount.type, mount.source, before),)) == (snapshotter, "b")


def test_mounts_that_only_look_like_ours_are_not(node: Node) -> None:
    snapshotter = node.snapshotter("layerfs-overlay")
    (mount,) = snapshotter.prepare("a")
    forged = Mount(mount.type, f"{mount.source}/../../../elsewhere", mount.options)
    for mounts in ((forged,), (mount, mount), (Mount("bind", "/etc", ("rw",)),), ()):
        with pytest.raises(Unsupported):
            node.shown_by(mounts)


def test_numbers_count_by_kind(node: Node) -> None:
    snapshotter = node.snapshotter("layerfs-overlay")
    snapshotter.prepare("a")
    snapshotter.commit("base", "a")
    snapshotter.view("v", "base")
    assert node.numbers()["overlay"].kinds == {"view": 1, "active": 0, "committed": 1}
