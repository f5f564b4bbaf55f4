"""Graphs and histories in JSON."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from layerfs.errors import InvalidArgument
from layerfs.plan.graph import Module, make_graph
from layerfs.plan.jsonfile import read_graph, read_history, with_history
from layerfs.plan.tree import Claims


def written(scratch: Path, document: Any) -> bytes:
    path = scratch / "graph.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return os.fsencode(path)


def test_all_keys_are_read(scratch: Path) -> None:
    whole = {
        "name": "a", "version": "1", "bytes": 5, "files": 2, "depends": ["b"], "probability": 0.5, "source": "s",
        "rebuilds": False,
    }  # fmt: skip
    graph = read_graph(written(scratch, {"name": "g", "modules": [whole, {"name": "b", "bytes": 0, "digest": "d"}]}))
    assert graph.name == "g"
    assert (graph.root, graph.claims) == (None, Claims())
    assert graph.modules == (Module("a", 5, "1", 2, ("b",), 0.5, "s", False), Module("b", 0, "d"))


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ([], "is no JSON object"),
        ({}, "has no list of modules"),
        ({"modules": [1]}, "is no object with a name"),
        ({"modules": [{"name": "a"}]}, "module a of .* has no bytes"),
        ({"modules": [{"name": "a", "bytes": "1"}]}, "module a of .* has bytes of a wrong type"),
        ({"modules": [{"name": "a", "bytes": True}]}, "module a of .* has bytes of a wrong type"),
        ({"modules": [{"name": "a", "bytes": 1, "depends": [1]}]}, "module a of .* has depends"),
        ({"modules": [{"name": "a", "paths": ["x"]}]}, "module a has paths, but .* has no root"),
        ({"root": "r", "modules": [{"name": "a", "paths": ["a/../../x"]}]}, "has the path a/../../x"),
        ({"root": "r", "modules": [{"name": "a", "paths": [1]}]}, "has paths that are no list"),
        ({"root": 1, "modules": []}, "has a root that is no path"),
        ({"modules": [{"name": "a", "bytes": 1, "dependz": []}]}, "module a of .* has an unknown key: dependz"),
    ],
)
def test_wrong_files_are_refused(scratch: Path, document: Any, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        read_graph(written(scratch, document))


def test_a_file_of_too_many_values_is_refused_before_they_take_memory(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 MB of empty lists took 5 GB."""
    path = written(scratch, {"modules": [{"name": "a,[{", "bytes": 1}], "more": [[]] * 10})
    monkeypatch.setattr("layerfs.plan.jsonfile.VALUES", 28)
    assert read_graph(path).modules[0].name == "a,[{"
    monkeypatch.setattr("layerfs.plan.jsonfile.VALUES", 27)
    with pytest.raises(InvalidArgument, match="has more than 27 values"):
        read_graph(path)


def test_a_fifo_is_refused_at_once(scratch: Path) -> None:
    os.mkfifo(scratch / "fifo")
    with pytest.raises(InvalidArgument, match="no regular file"):
        read_graph(os.fsencode(scratch / "fifo"))


def test_a_history_replaces_the_chances(scratch: Path) -> None:
    graph = make_graph("g", [Module("a", 1), Module("b", 1)])
    builds = read_history(written(scratch, {"builds": [["a"], ["a", "gone"], []]}))
    assert [module.chance for module in with_history(graph, builds).modules] == [2.5 / 4, 0.5 / 4]


def test_paths_say_where_the_files_are(scratch: Path) -> None:
    modules = [{"name": "b", "paths": ["./x//y", "z"]}, {"name": "a", "bytes": 1, "paths": ["z", "."]}]
    found = read_graph(written(scratch, {"root": "r", "modules": modules}))
    assert found.root == os.fsencode(scratch / "r")
    assert found.claims.below == {b"x/y": "b", b"z": "a", b"": "a"}


@pytest.mark.parametrize("document", [{}, {"builds": []}, {"builds": ["a"]}, {"builds": [[1]]}])
def test_what_is_no_history_is_refused(scratch: Path, document: Any) -> None:
    with pytest.raises(InvalidArgument, match="is no history"):
        read_history(written(scratch, document))


def test_half_of_a_pair_of_surrogates_is_refused_and_bytes_of_names_are_not(scratch: Path) -> None:
    """It ended as a bug, where a path became bytes."""
    with pytest.raises(InvalidArgument, match="is no JSON"):
        read_graph(written(scratch, '{"root": "\\ud800", "modules": [{"name": "a", "paths": ["b"]}]}'))
    found = read_graph(written(scratch, '{"root": "\\udcff", "modules": [{"name": "a", "paths": ["b"]}]}'))
    assert found.root is not None
    assert found.root.endswith(b"/\xff")
