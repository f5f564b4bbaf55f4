"""Dependency graphs of XARs: the order of the stack, what counts once, and what is refused by name."""

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerfs.errors import Corrupt, InvalidArgument, LayerfsError, NotFound
from layerfs.xar.header import MAGIC, NotImage
from layerfs.xar.order import Graph
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


CYCLES = {
    "itself": ({"a": ["a"]}, "a.xar -> a.xar"),
    "two": ({"a": ["b"], "b": ["a"]}, "a.xar -> b.xar -> a.xar"),
    "below the top": ({"t": ["a"], "a": ["b", "x"], "x": [], "b": ["c"], "c": ["a", "d"], "d": []},
                      "a.xar -> b.xar -> c.xar -> a.xar"),
}  # fmt: skip


@pytest.mark.parametrize(("graph", "said"), CYCLES.values(), ids=CYCLES)
def test_cycle_is_refused_by_its_names(tmp_path: Path, graph: dict[str, list[str]], said: str) -> None:
    place = fakes(tmp_path, graph)
    with pytest.raises(InvalidArgument, match=f"in a circle: {said} \\(hint") as caught:
        resolved(place / f"{next(iter(graph))}.xar")
    assert caught.value.hint


def test_cycle_of_a_thousand_is_refused_in_one_line(tmp_path: Path) -> None:
    graph = {f"p{n}": [f"p{(n + 1) % 1000}"] for n in range(1000)}
    with pytest.raises(InvalidArgument, match=r"p0.xar -> p1.xar -> .* -> \(989 more\) -> .*p999.xar -> p0.xar \(hint"):
        resolved(fakes(tmp_path, graph) / "p0.xar")


def test_missing_packages_are_all_named_with_who_needs_them_and_where_they_were_searched(tmp_path: Path) -> None:
    place = fakes(tmp_path, {"a": ["b", "x"], "b": ["y"]})
    with pytest.raises(NotFound) as caught:
        resolved(place / "a.xar", path=[tmp_path / "else"])
    assert caught.value.message == (
        f"there is no x.xar, which a.xar depends on; no y.xar, which b.xar depends on; "
        f"searched: {tmp_path}, {tmp_path}/else (LAYERFS_XAR_PATH)"
    )
    assert "LAYERFS_XAR_PATH" in caught.value.hint


def test_layer_given_above_its_dependant_is_refused(tmp_path: Path) -> None:
    place = fakes(tmp_path, {"a": ["b"], "b": ["f"], "f": [], "x": []})
    with pytest.raises(InvalidArgument) as caught:
        resolved(place / "x.xar", place / "f.xar", place / "a.xar")
    assert caught.value.message == "f.xar is given above a.xar, which depends on it: a.xar -> b.xar -> f.xar"
    assert caught.value.hint == "give f.xar after a.xar"


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


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """An acyclic graph in the order of a walk, with some of its packages named in an order that it permits."""
    count = draw(st.integers(1, 12))
    lowers = [draw(st.lists(st.integers(n + 1, count - 1), unique=True, max_size=4)) if n < count - 1 else []
              for n in range(count)]  # fmt: skip
    named = sorted({0, *draw(st.sets(st.integers(0, count - 1)))})
    edges: dict[int, list[int]] = {}
    stack = named[::-1]
    while stack:
        index = stack.pop()
        if index not in edges:
            edges[index] = lowers[index]
            stack.extend(reversed(lowers[index]))
    return Graph(edges, named, [str(n) for n in range(count)])


@given(graphs())
def test_every_dependant_stands_above_its_dependencies_and_named_layers_in_their_order(graph: Graph) -> None:
    found = graph.order()
    place = {index: number for number, index in enumerate(found)}
    assert sorted(found) == sorted(graph.edges)
    assert all(place[index] < place[below] for index, lowers in graph.edges.items() for below in lowers)
    assert all(place[upper] < place[lower] for upper, lower in pairwise(graph.given))


@given(graphs())
def test_order_is_stable(graph: Graph) -> None:
    """Only constraints move a package: whoever stands above one met earlier has to, or follows somebody who has to."""
    found = graph.order()
    ranks = {index: rank for rank, index in enumerate(graph.edges)}
    chain = list(pairwise(graph.given))
    for upper, lower in pairwise(found):
        if ranks[upper] > ranks[lower]:
            assert lower in graph.edges[upper] or (upper, lower) in chain
    assert Graph(graph.edges, found, graph.names).order() == found, "the result, named, is its own order"
