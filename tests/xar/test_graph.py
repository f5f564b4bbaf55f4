"""Dependency graphs of XARs: the order of the stack, what counts once, and what is refused by name."""

import os
from pathlib import Path

import pytest

from layerfs.errors import Corrupt, InvalidArgument, LayerfsError, NotFound
from layerfs.xar.header import MAGIC
from layerfs.xar.image_file import NotImage
from tests.xar.packages import DIAMOND, fake, fakes, order, resolved

ORDERS = {
    "one alone": ({"a": []}, "a", "a"),
    "a chain": ({"a": ["b"], "b": ["c"], "c": []}, "a", "a b c"),
    "a diamond counts once": (DIAMOND, "a", "a b d c e f"),
    "siblings in the order of DEPENDENCIES": ({"a": ["z", "m", "b"], "z": [], "m": [], "b": []}, "a", "a z m b"),
    "named layers keep their order": ({"b": [], "a": []}, "b a", "b a"),
    "what is pulled in comes right below": ({"a": ["c"], "b": [], "c": []}, "a b", "a c b"),
    "what two need comes below both": ({"a": ["c"], "b": ["c"], "c": []}, "a b", "a b c"),
    "a named dependency stays below a layer": ({"a": ["c"], "b": [], "c": []}, "a b c", "a b c"),
    "a named dependency moves up no further": ({"a": ["b"], "b": ["f"], "f": []}, "a f", "a b f"),
    "a dependency named above its sibling": ({"a": ["x", "y"], "x": [], "y": []}, "a y x", "a y x"),
    "a dependency of a sibling": ({"a": ["b", "c"], "b": [], "c": ["b"]}, "a", "a c b"),
}


@pytest.mark.parametrize(("graph", "lowers", "expected"), ORDERS.values(), ids=ORDERS)
def test_stack_is_ordered(tmp_path: Path, graph: dict[str, list[str]], lowers: str, expected: str) -> None:
    place = fakes(tmp_path, graph)
    assert order(resolved(*(place / f"{name}.xar" for name in lowers.split()))) == expected


def test_directories_and_bare_images_are_layers_that_depend_on_nothing(tmp_path: Path) -> None:
    place = fakes(tmp_path, {"a": ["b"], "b": []})
    (place / "dir").mkdir()
    (place / "image.sqfs").write_bytes(MAGIC + b"image")
    found = resolved(place / "dir", place / "a.xar", place / "image.sqfs")
    assert order(found) == "dir a b image.sqfs"
    assert found.lowers == tuple(os.fsencode(place / n) for n in ("dir", "a.xar", "b.xar", "image.sqfs"))
    assert [member.name for member in found.pulled] == [b"b.xar"]
    assert [member.name for member in found.connected] == [b"a.xar", b"b.xar"]
    assert found.depends == ({}, {b"b.xar": 2}, {}, {})


def test_a_dependency_may_be_a_bare_image(tmp_path: Path) -> None:
    (tmp_path / "f.xar").write_bytes(MAGIC + b"image")
    assert order(resolved(fake(tmp_path, "a", ["f"]))) == "a f"


def test_one_file_with_two_names_counts_once(tmp_path: Path) -> None:
    place = fakes(tmp_path, {"a": ["b", "c", "d"], "b": []})
    (place / "c.xar").symlink_to("b.xar")
    os.link(place / "b.xar", place / "d.xar")
    assert order(resolved(place / "a.xar")) == "a b"


def test_equal_bytes_with_two_names_count_once(tmp_path: Path) -> None:
    fake(tmp_path, "b", content="same")
    fake(tmp_path, "c", content="same")
    fake(tmp_path, "d", content="more")
    assert order(resolved(fake(tmp_path, "a", ["b", "c", "d"]))) == "a b d"


def test_a_named_layer_is_what_its_name_means_to_all(tmp_path: Path) -> None:
    place = fakes(tmp_path / "here", {"a": ["f"], "f": []})
    chosen = fake(fakes(tmp_path / "there", {}), "f", content="another")
    found = resolved(place / "a.xar", chosen)
    assert found.lowers == (os.fsencode(place / "a.xar"), os.fsencode(chosen))


def test_chain_of_a_thousand(tmp_path: Path) -> None:
    graph = {f"p{n}": [f"p{n + 1}"] if n < 999 else [] for n in range(1000)}
    found = resolved(fakes(tmp_path, graph) / "p0.xar")
    assert order(found) == " ".join(graph)


def test_missing_packages_are_all_named_with_who_needs_them_and_where_they_were_searched(tmp_path: Path) -> None:
    place = fakes(tmp_path, {"a": ["b", "x"], "b": ["y"]})
    with pytest.raises(NotFound) as caught:
        resolved(place / "a.xar", path=[tmp_path / "else"])
    assert caught.value.message == (
        f"there is no x.xar, which a.xar depends on; no y.xar, which b.xar depends on; "
        f"searched: {tmp_path}, {tmp_path}/else (LAYERFS_XAR_PATH)"
    )
    assert "LAYERFS_XAR_PATH" in caught.value.hint


def test_one_name_with_two_contents_in_one_graph_is_refused(tmp_path: Path) -> None:
    one = fakes(tmp_path / "one", {"a": ["f"], "f": []})
    two = fakes(tmp_path / "two", {"b": ["f"]})
    fake(two, "f", version=2, content="another")
    with pytest.raises(InvalidArgument) as caught:
        resolved(one / "a.xar", two / "b.xar")
    assert caught.value.message == (
        f"f.xar, which a.xar and b.xar depend on, is ambiguous: "
        f"{one}/f.xar (version 1) and {two}/f.xar (version 2) differ"
    )


def test_one_name_with_one_content_at_two_places_counts_once(tmp_path: Path) -> None:
    one = fakes(tmp_path / "one", {"a": ["f"], "f": []})
    two = fakes(tmp_path / "two", {"b": ["f"], "f": []})
    assert order(resolved(one / "a.xar", two / "b.xar")) == "a b f"


def test_two_named_layers_of_one_name_are_ambiguous_only_where_something_depends_on_them(tmp_path: Path) -> None:
    one, two = (fake(fakes(tmp_path / name, {}), "f", content=name) for name in ("one", "two"))
    assert order(resolved(one, two)) == "f f"
    dependant = fake(tmp_path, "a", ["f"])
    with pytest.raises(InvalidArgument, match=r"f\.xar, which is given twice, is ambiguous"):
        resolved(dependant, one, two)


LAYERS: dict[str, tuple[str, type[LayerfsError], str]] = {
    "twice": ("a.xar a.xar", InvalidArgument, "given twice"),
    "absent": ("a.xar none", NotFound, "none is not there"),
    "no file": ("a.xar pipe", NotImage, "not a regular file"),
    "a bad header": ("bad.xar", Corrupt, "bad.xar: line"),
}


@pytest.mark.parametrize(("lowers", "error", "said"), LAYERS.values(), ids=LAYERS)
def test_layer_is_refused(tmp_path: Path, lowers: str, error: type[LayerfsError], said: str) -> None:
    place = fakes(tmp_path, {"a": []})
    os.mkfifo(place / "pipe")
    (place / "bad.xar").write_text('#!/usr/bin/env xarexec_fuse\nOFFSET="12"\n#xar_stop\n')
    with pytest.raises(error, match=said):
        resolved(*(place / name for name in lowers.split()))
