"""Layers of an image unpacked side by side."""

from pathlib import Path

import pytest

from layerfs.lowers.kinds import open_tree
from layerfs.oci.digest import digest_of
from layerfs.oci.unpack import chain_ids
from layerfs.oci.view import RawView
from layerfs.snapshots.library import Store
from tests.oci.image import Made
from tests.oci.tars import END, directory, file, link
from tests.oci.test_intake import take


def test_chain_ids_are_those_of_the_specification() -> None:
    one, two = digest_of(b"1"), digest_of(b"2")
    assert chain_ids([]) == []
    assert chain_ids([one, two]) == [one, digest_of(f"{one} {two}".encode())]


@pytest.mark.parametrize("driver", ["overlay", "fuse", "xar"])
def test_layers_that_need_those_below_wait_for_them(driver: str, store: Store, scratch: Path) -> None:
    """Whiteouts of what is not there, parents without an entry, and links down are right however layers overtake."""
    layers = [directory(b"d", mode=0o711, uid=7) + file(b"d/0", bytes(3_000_000)) + END]
    layers += [
        file(b"d/%d" % n, b"x")
        + link(b"l%d" % n, b"d/%d" % (n - 1))
        + file(b"no/.wh.x")
        + file(b"d/.wh.%d" % (n - 2))
        + END
        for n in range(1, 12)
    ]
    take(store, Made(layers).layout(scratch / "i"), driver=driver)
    snapshots = store.snapshotter(driver)
    top = chain_ids([digest_of(layer) for layer in layers])[-1]
    stack = snapshots.stack(top)
    with RawView(open_tree(stack.lowers[0], 0)) as view:
        assert set(view.names(b"")) == {b"d", b"l11"}
        assert set(view.names(b"d")) == {b"11", b"10", b"9"}
        seen = view.look(b"d")
    assert seen is not None
    assert (seen.member.mode, seen.member.uid, stack.lowers[0].endswith(b".xar")) == (0o711, 7, driver == "xar")
