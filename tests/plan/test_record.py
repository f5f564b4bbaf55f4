"""Plans as they are packed, and the record of a pack."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from layerfs.errors import InvalidArgument, NotFound
from layerfs.plan.document import FORMAT
from layerfs.plan.graph import Module, make_graph
from layerfs.plan.record import LayerRecord, PackRecord, compare, read_plan, read_record, source_of, write_record
from layerfs.plan.sources import SourceSpec

LAYERS = [{"id": 3, "why": "calm", "modules": [{"name": "a", "version": "1"}, {"name": "b"}]}]


def plan(scratch: Path, **more: Any) -> bytes:
    path = scratch / "plan.json"
    path.write_text(json.dumps({"format": FORMAT, "layers": LAYERS} | more))
    return os.fsencode(path)


def test_a_plan_says_where_its_files_are(scratch: Path) -> None:
    words = SourceSpec("dot", "/g", sizes="/out")
    read = read_plan(plan(scratch, source=source_of(words)))
    assert (read.words, read.layers, read.versions, read.whys) == (
        words, ((3, ("a", "b")),), {"a": "1", "b": ""}, ("calm",),
    )  # fmt: skip
    assert read_plan(plan(scratch)).words is None
    many = SourceSpec("xar", "/a", ("/b",))
    assert read_plan(plan(scratch, source=json.loads(json.dumps(source_of(many))))).words == many


@pytest.mark.parametrize("source", [1, {}, {"kind": "tar", "what": "x"}, {"kind": "xar", "what": "x", "more": [1]}])
def test_a_source_that_is_none_is_refused(scratch: Path, source: Any) -> None:
    with pytest.raises(InvalidArgument, match="has a source that is none"):
        read_plan(plan(scratch, source=source))


def test_no_layers_are_no_plan(scratch: Path) -> None:
    with pytest.raises(InvalidArgument, match="has no layers"):
        read_plan(plan(scratch, layers=[]))


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ([Module("a", 1, "1")], "has the module b, which tree does not have"),
        ([Module("a", 1, "1"), Module("b", 1), Module("c", 1)], "tree has the module c, which .* does not know"),
        ([Module("a", 1, "2"), Module("b", 1)], "a has the version 2 in tree, but 1 in"),
        ([Module("a", 1), Module("b", 1)], "a has the version none in tree, but 1 in"),
    ],
)
def test_a_tree_that_changed_is_refused_by_name(scratch: Path, modules: list[Module], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        compare(read_plan(plan(scratch)), make_graph("tree", modules))


def test_a_record_is_read_as_it_was_written(scratch: Path) -> None:
    record = PackRecord("xar", "layer", (LayerRecord(0, "a" * 64, "layer-0.xar", "b" * 64, 5),))
    write_record(os.fsencode(scratch), record)
    assert read_record(os.fsencode(scratch)) == record


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pack": "other"}, "is no record of a pack"),
        ({"layers": [{"id": 1}]}, "has a layer that is none"),
        ({"layers": [{"file": "../x"}]}, "has a layer that is none: ../x"),
        ({"layers": [{"sha256": "zz"}]}, "has a layer that is none: layer-0.xar"),
        ({"layers": [{"bytes": True}]}, "has a layer that is none"),
    ],
)
def test_wrong_records_are_refused(scratch: Path, change: dict[str, Any], said: str) -> None:
    write_record(
        os.fsencode(scratch), PackRecord("xar", "layer", (LayerRecord(0, "a" * 64, "layer-0.xar", "b" * 64, 5),))
    )
    path = scratch / "pack.json"
    document = json.loads(path.read_text())
    if "layers" in change and change["layers"] != [{"id": 1}]:
        change = {"layers": [document["layers"][0] | change["layers"][0]]}
    path.write_text(json.dumps(document | change))
    with pytest.raises(InvalidArgument, match=said):
        read_record(os.fsencode(scratch))


def test_a_directory_without_a_record_is_refused(scratch: Path) -> None:
    with pytest.raises(NotFound, match=r"has no pack\.json"):
        read_record(os.fsencode(scratch))
