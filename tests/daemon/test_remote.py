"""A layer that the store has is adopted, not prepared."""

import pytest

from layerfs.daemon.node import Node
from layerfs.daemon.remote import REF, is_of_an_image, prepare_or_adopt
from layerfs.errors import AlreadyExists
from layerfs.store.info import Info, Kind


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
    assert is_of_an_image(Info(name=name, kind=Kind.COMMITTED, labels=labels)) is hidden
