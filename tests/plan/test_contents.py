"""What layers hold, and the digest of it."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerfs.errors import NotReady, Unsupported
from layerfs.oci.tar import HARD_LINK
from layerfs.plan.contents import LayerContents, slices
from layerfs.plan.tree import UNOWNED, ModuleTree
from tests.host import require
from tests.plan.scenes import opened_source
from tests.plan.trees import make_house, words_of

LAYERS = [(5, ["lib"]), (2, ["app", "words"]), (0, [UNOWNED])]


@contextmanager
def tree_of(graph: Path) -> Iterator[ModuleTree]:
    with opened_source(words_of(graph)) as source:
        assert source.tree is not None
        yield source.tree


def digests(graph: Path, recipe: bytes = b"") -> list[str]:
    with tree_of(graph) as tree:
        return [LayerContents(tree, piece, recipe).drain() for piece in slices(tree, LAYERS)]


def test_each_file_is_in_one_layer_and_directories_are_plain_below_the_topmost(scratch: Path) -> None:
    with tree_of(make_house(scratch)) as tree:
        pieces = slices(tree, LAYERS)
        assert [piece.id for piece in pieces] == [5, 2, 0]
        members = [{item.member.path: item.member for item in LayerContents(tree, p, b"").items()} for p in pieces]
    files = [path for layer in members for path, member in layer.items() if path in tree.owners]
    assert sorted(files) == sorted(tree.owners)
    assert members[0][b"lib/one"].target == b"lib/deep/two"
    assert members[0][b"lib/one"].kind == HARD_LINK
    assert (members[0][b"lib"].mode, members[0][b"lib"].mtime_ns) == (0o755, 0)
    assert members[2][b"etc/empty"].mode == 0o700
    assert set(tree.directories) <= members[2].keys()
    for layer in members:
        assert next(iter(layer)) == b""
        assert all(os.path.dirname(path) in layer for path in layer)


def test_a_change_of_one_file_changes_the_digest_of_its_layer_alone(scratch: Path) -> None:
    graph = make_house(scratch)
    before = digests(graph)
    assert digests(graph) == before
    with open(scratch / "src/lib/one", "r+b") as file:
        file.write(b"x")
    now = digests(graph)
    assert [one == other for one, other in zip(before, now, strict=True)] == [False, True, True]
    (scratch / "src/share/words").chmod(0o600)
    assert [one == other for one, other in zip(now, digests(graph), strict=True)] == [True, False, True]
    (scratch / "src/lib").chmod(0o700)
    assert digests(graph)[0] == now[0]
    assert digests(graph, b"otherwise")[0] != now[0]


def test_times_after_the_latest_are_the_latest(scratch: Path) -> None:
    with tree_of(make_house(scratch)) as tree:
        piece = slices(tree, LAYERS)[0]
        times = {item.member.mtime_ns for item in LayerContents(tree, piece, b"", 1_000_000_001).items() if item.data}
    assert times == {1_000_000_001 * 10**9}


def test_what_changes_while_it_is_read_is_told(scratch: Path) -> None:
    graph = make_house(scratch)
    with tree_of(graph) as tree:
        piece = slices(tree, LAYERS)[1]
        (scratch / "src/share/words").unlink()
        with pytest.raises(NotReady, match="/share/words changed while it was packed"):
            LayerContents(tree, piece, b"").drain()


def test_marks_of_overlays_are_refused_or_left_out(scratch: Path) -> None:
    graph = make_house(scratch)
    os.setxattr(scratch / "src/lib", "user.overlay.opaque", b"y")
    with tree_of(graph) as tree:
        top = {item.member.path: item.member for item in LayerContents(tree, slices(tree, LAYERS)[2], b"").items()}
        assert top[b"lib"].xattrs == {}
        os.setxattr(scratch / "src/lib/deep/er/none", "user.overlay.whiteout", b"y")
        with pytest.raises(Unsupported, match="mark of a deletion"):
            LayerContents(tree, slices(tree, LAYERS)[0], b"").drain()


def test_a_device_that_hides_is_refused(scratch: Path) -> None:
    require("root")
    graph = make_house(scratch)
    os.mknod(scratch / "src/etc/hole", stat.S_IFCHR, 0)
    with tree_of(graph) as tree, pytest.raises(Unsupported, match="/etc/hole would hide"):
        LayerContents(tree, slices(tree, LAYERS)[2], b"").drain()
