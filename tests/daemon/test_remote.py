"""A layer that is there is adopted or staged, not prepared."""

import os
from pathlib import Path

import pytest

from layerfs.daemon.remote import is_hidden, prepare_or_adopt
from layerfs.daemon.served_store import ServedStore
from layerfs.errors import AlreadyExists
from layerfs.oci.cached import keep
from layerfs.snapshots.driver import PARENT_CHAIN
from layerfs.snapshots.leftovers import LOCAL
from layerfs.snapshots.sharing import REF
from layerfs.store.cache import Cache
from layerfs.store.info import Info, SnapshotKind

CHAIN = "sha256:" + "c" * 64


def test_an_imported_layer_is_found_by_its_chain_id(served_store: ServedStore) -> None:
    snapshotter = served_store.snapshotter("layerfs-overlay")
    snapshotter.prepare("making")
    snapshotter.commit("sha256:aa", "making")
    with pytest.raises(AlreadyExists):
        prepare_or_adopt(snapshotter, "default/1/extract sha256:aa", "", {REF: "sha256:aa"})
    (found,) = snapshotter.walk(f'labels."{REF}"==sha256:aa')
    assert found.kind.word == "committed"


def test_an_unknown_layer_is_prepared(served_store: ServedStore) -> None:
    snapshotter = served_store.snapshotter("layerfs-overlay")
    assert prepare_or_adopt(snapshotter, "k", "", {REF: "sha256:bb"})
    assert snapshotter.stat("k").labels[REF] == "sha256:bb"


def test_a_layer_that_is_there_is_staged_for_who_asks_without_its_parent(served_store: ServedStore) -> None:
    """containerd 2 asks so for all layers of an image at once; a read-only mount says "nothing to unpack"."""
    snapshotter = served_store.snapshotter("layerfs-overlay")
    for name, parent in (("base", ""), ("sha256:aa", "base")):
        snapshotter.prepare("making", parent)
        snapshotter.commit(name, "making")
    labels = {REF: "sha256:aa", PARENT_CHAIN: "sha256:00"}
    assert "ro" in prepare_or_adopt(snapshotter, "default/1/extract sha256:aa", "", labels)[-1].options
    snapshotter.commit("default/2/sha256:aa", "default/1/extract sha256:aa", labels, parent="base")
    unknown = {REF: "sha256:bb", PARENT_CHAIN: "sha256:00"}
    assert "ro" not in prepare_or_adopt(snapshotter, "default/3/extract sha256:bb", "", unknown)[-1].options


@pytest.fixture
def kept(served_store: ServedStore, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> ServedStore:
    """A served store whose package cache has a layer that its store has not."""
    monkeypatch.setenv("LAYERFS_CACHE", str(scratch / "cache"))
    overlay = served_store.snapshotter("layerfs-overlay")
    overlay.prepare("making")
    Path(os.fsdecode(overlay.writable_layer("making").path), "file").write_text("kept")
    overlay.commit(CHAIN, "making")
    os.close(keep(Cache.own(), overlay, CHAIN).held)
    overlay.remove(CHAIN)
    return served_store


@pytest.mark.parametrize("name", ["layerfs-overlay", "layerfs-fuse", "layerfs-xar"])
def test_a_layer_of_the_package_cache_is_found_by_its_chain_id(kept: ServedStore, name: str) -> None:
    snapshotter = kept.snapshotter(name)
    with pytest.raises(AlreadyExists):
        prepare_or_adopt(snapshotter, f"default/1/extract {CHAIN}", "", {REF: CHAIN})
    (found,) = snapshotter.walk(f'labels."{REF}"=={CHAIN}')
    assert (found.kind, found.parent) == (SnapshotKind.COMMITTED, "")
    assert [info.name for info in snapshotter.walk()] == [found.name]


@pytest.mark.parametrize("name", ["layerfs-overlay", "layerfs-fuse", "layerfs-xar"])
def test_a_layer_of_the_package_cache_is_staged(kept: ServedStore, name: str) -> None:
    snapshotter = kept.snapshotter(name)
    snapshotter.prepare("making")
    snapshotter.commit("base", "making")
    labels = {REF: CHAIN, PARENT_CHAIN: "sha256:00"}
    assert "ro" in prepare_or_adopt(snapshotter, "key", "", labels)[-1].options
    assert [info.name for info in snapshotter.walk()] == ["base", "key"]
    snapshotter.commit("top", "key", labels, parent="base")
    assert snapshotter.usage("top").inodes > 0


def test_a_package_that_is_damaged_is_not_taken(kept: ServedStore, caplog: pytest.LogCaptureFixture) -> None:
    (package,) = Path(os.fsdecode(Cache.own().root)).glob("packages/*/*/*.xar")
    data = package.read_bytes()
    package.chmod(0o644)
    package.write_bytes(data[:-8] + b"damaged!")
    overlay = kept.snapshotter("layerfs-overlay")
    assert prepare_or_adopt(overlay, "key", "", {REF: CHAIN})
    assert overlay.stat("key").kind is SnapshotKind.ACTIVE
    assert "corrupt" in caplog.text
    caplog.clear()


@pytest.mark.parametrize(
    ("name", "ref", "hidden"),
    [
        ("sha256:aa", "sha256:aa", True),
        ("extract-0123 sha256:aa", "sha256:aa", True),
        ("default/1/extract sha256:aa", "sha256:aa", False),
        ("default/2/sha256:aa", "sha256:aa", False),
        ("base", "sha256:aa", False),
        ("sha256:aa", "", False),
        ("base", "", False),
    ],
)
def test_containerd_is_not_shown_what_its_collector_would_take_from_an_image(name: str, ref: str, hidden: bool) -> None:
    labels = {REF: ref} if ref else {}
    assert is_hidden(Info(name=name, kind=SnapshotKind.ACTIVE, labels={LOCAL: "1"}))
    assert is_hidden(Info(name=name, kind=SnapshotKind.COMMITTED, labels=labels)) is hidden
