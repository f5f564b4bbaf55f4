"""Redirects: where a renamed directory finds its lower share, in every form and through other redirects."""

from collections.abc import Callable
from pathlib import Path

import pytest

from layerfs.union.options import RedirectDir, UnionOptions
from layerfs.union.redirect import lower_path
from tests.oracle.trees import WHITEOUT, Layer, Node, directory, file
from tests.union.box import Box, marks_of
from tests.union.kernel import overlay, tree_of


def redirected(target: bytes, **rest: bool) -> Node:
    return directory(xattrs=(("trusted.overlay.redirect", target),), **rest)


BASE: Layer = {b"a/b/f": file(b"f"), b"a/g": file(b"g"), b"z": file(b"z")}
# What the layers are, top first, and a sample of what they show together.
CASES: dict[str, tuple[list[Layer], dict[bytes, object]]] = {
    "absolute": ([{b"m": redirected(b"/a/b")}, BASE], {b"m/f": b"f"}),
    "bare": ([{b"m": redirected(b"a"), b"a": WHITEOUT}, BASE], {b"m/g": b"g", b"m/b/f": b"f"}),
    "bare, deeper": ([{b"a/m": redirected(b"b"), b"a/b": WHITEOUT}, BASE], {b"a/m/f": b"f", b"a/g": b"g"}),
    "to nothing": ([{b"m": redirected(b"/none"), b"m/own": file(b"1")}, BASE], {b"m": "dir", b"m/own": b"1"}),
    "over the same name": ([{b"a": redirected(b"/q")}, BASE, {b"q/x": file(b"x")}], {b"a": "dir", b"a/x": b"x"}),
    "in a lower layer": ([{b"m/top": file(b"t")}, {b"m": redirected(b"/a")}, BASE], {b"m/top": b"t", b"m/g": b"g"}),
    "through the redirect of a lower layer": (
        [{b"y": redirected(b"/x/b"), b"x/b": WHITEOUT}, {b"x": redirected(b"/a"), b"a": WHITEOUT}, BASE],
        {b"y/f": b"f", b"x/g": b"g"},
    ),
    "chain": (
        [{b"three": redirected(b"/two")}, {b"two": redirected(b"/one")}, {b"one": redirected(b"/a")}, BASE],
        {b"three/g": b"g", b"three/b/f": b"f"},
    ),
    "bare after absolute": (
        [{b"m": redirected(b"/d/two")}, {b"d/two": redirected(b"one")}, {b"d/one/h": file(b"h")}],
        {b"m/h": b"h"},
    ),
    "absolute after bare": (
        [{b"d/m": redirected(b"n")}, {b"d/n": redirected(b"/a")}, BASE],
        {b"d/m/g": b"g", b"d/n/g": b"g"},
    ),
    "stopped by a whiteout on the way": ([{b"m": redirected(b"/a/b")}, {b"a": WHITEOUT}, BASE], {b"m": "dir"}),
    "stopped by a file on the way": ([{b"m": redirected(b"/a/b")}, {b"a": file(b"1")}, BASE], {b"m": "dir"}),
    "stopped by an opaque directory on the way": (
        [{b"m": redirected(b"/a/b")}, {b"a": directory(opaque=True), b"a/b/n": file(b"n")}, BASE],
        {b"m": "dir", b"m/n": b"n"},
    ),
    "stopped by opacity": (
        [{b"m": redirected(b"/a")}, {b"a": directory(opaque=True), b"a/n": file(b"n")}, BASE],
        {b"m": "dir", b"m/n": b"n"},
    ),
    "opaque wins": (
        [{b"m": redirected(b"/a", opaque=True), b"m/own": file(b"1")}, BASE],
        {b"m": "dir", b"m/own": b"1"},
    ),
}


def below(tree: dict[bytes, object], sample: dict[bytes, object]) -> dict[bytes, object]:
    """The part of a tree that a sample speaks of."""
    tops = {path.split(b"/")[0] for path in sample}
    return {path: what for path, what in tree.items() if path.split(b"/")[0] in tops}


@pytest.mark.parametrize("upper", [True, False], ids=["as upper", "as lower"])
@pytest.mark.parametrize("case", CASES)
def test_redirect_reads_as_in_the_kernel(scratch: Path, require: Callable[..., None], case: str, upper: bool) -> None:
    require("kernel overlay")
    layers, sample = CASES[case]
    with Box(scratch, *(layers[1:] if upper else layers), upper=layers[0] if upper else {}) as box:
        tree = box.tree()
        assert box.is_clean()
        assert not box.ov.handles.open_parts()
    assert below(tree, sample) | sample == below(tree, sample)
    lowers = [box.upper, *box.stack.lowers] if upper else list(box.stack.lowers)
    with overlay(scratch, lowers if len(lowers) > 1 else [*lowers, lowers[0]], options="redirect_dir=follow") as merged:
        assert tree_of(merged) == tree


@pytest.mark.parametrize(
    "bad",
    [b"", b"/", b"/a/", b"//a", b"a/b", b"/a/../a", b"..", b".", b"\0", b"/a\0b", b"/" + b"n" * 256, b"/a/b" * 1025],
)
def test_malformed_redirect_is_none(scratch: Path, bad: bytes) -> None:
    with Box(scratch, {b"a": redirected(bad), b"a/own": file(b"1")}, BASE) as box:
        assert box.names(b"a") == [b"b", b"g", b"own"]


def test_redirects_are_not_followed_when_told_so(scratch: Path) -> None:
    options = UnionOptions(redirect_dir=RedirectDir.NOFOLLOW)
    with Box(scratch, {b"m": redirected(b"/a"), b"m/own": file(b"1")}, BASE, options=options) as box:
        assert box.names(b"m") == [b"own"]
        box.rename(b"a", b"moved")
        assert marks_of(box.upper) == {b"a": "whiteout", b"moved": "opaque y", b"moved/b": "opaque y"}


@pytest.mark.mounts
def test_renamed_directory_of_a_redirected_one_finds_its_lowers_again(scratch: Path) -> None:
    """The redirect named a path that a layer in between hides: after a remount the directory was empty."""
    layers = [{b"x": redirected(b"/a"), b"a": WHITEOUT}, BASE]
    with Box(scratch, *layers) as box:
        box.rename(b"x/b", b"y")
        assert marks_of(box.upper)[b"y"] == "redirect /x/b"
        before = box.tree()
        assert before[b"y/f"] == b"f"
        assert box.again().tree() == before
        with overlay(scratch, [box.upper, *box.stack.lowers], options="redirect_dir=follow") as merged:
            assert tree_of(merged) == before


def test_chain_of_renames_of_parent_and_child_keeps_both(scratch: Path) -> None:
    with Box(scratch, BASE) as box:
        box.rename(b"a", b"p")
        box.rename(b"p/b", b"c")
        box.rename(b"p", b"c/p")
        box.rename(b"c", b"d")
        before = box.tree()
        assert before == {b"d": "dir", b"d/f": b"f", b"d/p": "dir", b"d/p/g": b"g", b"z": b"z"}
        assert marks_of(box.upper) == {
            b"a": "whiteout", b"d": "redirect /a/b", b"d/p": "redirect /a", b"d/p/b": "whiteout",
        }  # fmt: skip
        numbers = box.numbers()
        assert box.again().tree() == before
        assert box.numbers() == numbers


def test_lower_path_follows_the_redirects_above(scratch: Path) -> None:
    upper = {b"m": redirected(b"/a"), b"a": WHITEOUT, b"m/n": redirected(b"b"), b"m/b": WHITEOUT}
    with Box(scratch, BASE, upper=upper) as box, box.node(b"m/n") as node:
        assert lower_path(box.ov, node) == b"/a/b"  # type: ignore[arg-type]
