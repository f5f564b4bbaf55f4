"""Plans as JSON, and read again."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from layerfs.errors import InvalidArgument
from layerfs.plan.baselines import BASELINES
from layerfs.plan.cost import Prices
from layerfs.plan.document import FORMAT, describe, read_previous
from layerfs.plan.graph import Module
from tests.plan.graphs import units_of

MODULES = [Module("calm", 1_000_000, chance=0.01), Module("wild", 1000, chance=0.5, depends=("calm",))]


def test_a_plan_is_bottom_first_with_reasons_and_alternatives() -> None:
    shown = describe(units_of(*MODULES), [4, 2], 2, Prices(0, 0))
    assert [(layer["id"], [m["name"] for m in layer["modules"]]) for layer in shown["layers"]] == [
        (4, ["calm"]),
        (2, ["wild"]),
    ]
    assert shown["layers"][1]["modules"][0]["why"] == "changes in 50% of builds; with what rebuilds it in 50%"
    assert shown["expected_bytes"] == 10_505
    assert [other["name"] for other in shown["alternatives"]] == list(BASELINES)


def test_a_plan_is_read_again_and_new_modules_are_new(scratch: Path) -> None:
    path = scratch / "plan.json"
    path.write_text(json.dumps(describe(units_of(*MODULES), [4, 2], 2, Prices())))
    assert read_previous(os.fsencode(path), units_of(*MODULES, Module("zero", 0))) == ((4, 2, -1), frozenset([2, 4]))
    newer = units_of(replace(MODULES[0], version="2"), MODULES[1])
    assert read_previous(os.fsencode(path), newer) == ((4, 2), frozenset([2]))
    assert read_previous(os.fsencode(path), units_of(replace(MODULES[1], depends=()))) == ((2,), frozenset([2]))
    shown = describe(units_of(*MODULES), [4, 4], 2, Prices(before=(4, 2)))
    assert [m["why"].split("; ")[-1] for m in shown["layers"][0]["modules"]] == [
        "stays in its layer",
        "moves here from layer 2",
    ]


def layer(number: Any, *names: str) -> dict[str, Any]:
    return {"id": number, "modules": [{"name": name} for name in names]}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "is no plan"),
        ({"format": FORMAT, "layers": [1]}, "has a layer without an id"),
        ({"format": FORMAT, "layers": [layer(-1)]}, "has a layer without an id"),
        ({"format": FORMAT, "layers": [layer(1), layer(1)]}, "has a layer without an id of its own"),
        ({"format": FORMAT, "layers": [layer(1, "calm", "calm")]}, "or one twice: calm"),
        ({"format": FORMAT, "layers": [layer(1, "x", "y")]}, "is a plan for another graph: test has no module x"),
        ({"format": FORMAT, "layers": []}, "is a plan for another graph"),
        (
            {"format": FORMAT, "layers": [layer(1, "x", "(unowned)")]},
            "is a plan for another graph: test has no module x",
        ),
    ],
)
def test_wrong_plans_are_refused(scratch: Path, document: Any, said: str) -> None:
    path = scratch / "plan.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidArgument, match=said):
        read_previous(os.fsencode(path), units_of(*MODULES, Module("(unowned)", 1)))
