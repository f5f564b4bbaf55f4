"""The order of packages in a stack, and the circles that have none."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerfs.errors import InvalidArgument
from layerfs.xar.order import DependencyGraph
from tests.xar.packages import fakes, resolved

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


def test_layer_given_above_its_dependant_is_refused(tmp_path: Path) -> None:
    place = fakes(tmp_path, {"a": ["b"], "b": ["f"], "f": [], "x": []})
    with pytest.raises(InvalidArgument) as caught:
        resolved(place / "x.xar", place / "f.xar", place / "a.xar")
    assert caught.value.message == "f.xar is given above a.xar, which depends on it: a.xar -> b.xar -> f.xar"
    assert caught.value.hint == "give f.xar after a.xar"


@st.composite
def graphs(draw: st.DrawFn) -> DependencyGraph:
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
    return DependencyGraph(edges, named, [str(n) for n in range(count)])


@given(graphs())
def test_every_dependant_stands_above_its_dependencies_and_named_layers_in_their_order(graph: DependencyGraph) -> None:
    found = graph.order()
    place = {index: number for number, index in enumerate(found)}
    assert sorted(found) == sorted(graph.edges)
    assert all(place[index] < place[below] for index, lowers in graph.edges.items() for below in lowers)
    assert all(place[upper] < place[lower] for upper, lower in pairwise(graph.given))


@given(graphs())
def test_order_is_stable(graph: DependencyGraph) -> None:
    """Only constraints move a package: whoever stands above one met earlier has to, or follows somebody who has to."""
    found = graph.order()
    ranks = {index: rank for rank, index in enumerate(graph.edges)}
    chain = list(pairwise(graph.given))
    for upper, lower in pairwise(found):
        if ranks[upper] > ranks[lower]:
            assert lower in graph.edges[upper] or (upper, lower) in chain
    assert DependencyGraph(graph.edges, found, graph.names).order() == found, "the result, named, is its own order"
