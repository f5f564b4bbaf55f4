"""A layer that the store has is adopted, not prepared."""

import pytest

from layerfs.daemon.node import Node
from layerfs.daemon.remote import REF, prepare_or_adopt
from layerfs.errors import AlreadyExists


def test_an_imported_layer_is_found_by_its_chain_id(node: Node) -> None:
    snapshotter = node.snapshotter("layerfs-overlay")
    snapshotter.prepare("making")
    snapshotter.commit("sha256:aa", "making")
    with pytest.raises(AlreadyExists):
        prepare_or_adopt(snapshotter, "default/1/extract sha256:aa", "", {REF: "sha256:aa"})
    (found,) = snapshotter.walk(f'labels."{REF}"==sha256:aa')
    assert found.kind.word == "committed"


def test_an_unknown_layer_is_prepared(node: Node) -> None:
    snapshotter = node.snapshotter("layerfs-overlay")
    assert prepare_or_adopt(snapshotter, "k", "", {REF: "sha256:bb"})
    assert snapshotter.stat("k").labels[REF] == "sha256:bb"
