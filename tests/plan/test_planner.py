"""The planner against every possible plan, and what becomes of a plan when little changes."""

import subprocess
import sys
from dataclasses import replace

import pytest

from layerfs.errors import InvalidArgument
from layerfs.plan.baselines import BASELINES
from layerfs.plan.cost import Prices, cost, moved_bytes, sent_bytes
from layerfs.plan.graph import Module, make_graph
from layerfs.plan.planner import make_plan, stacked
from layerfs.plan.units import make_units
from tests.plan.graphs import cheapest, random_graph, units_of


@pytest.mark.parametrize("seed", range(24))
def test_small_plans_are_the_cheapest_of_all(seed: int) -> None:
    units = make_units(random_graph(seed, 2 + seed % 6))
    k, prices = 1 + seed % 4, Prices(layer=1000)
    plan = make_plan(units, k, prices)
    assert len(set(plan)) <= k
    assert cost(units, plan, prices) == pytest.approx(cheapest(units, k, prices), rel=1e-6)


@pytest.mark.parametrize("k", [1, 4, 16])
def test_no_baseline_that_respects_k_is_cheaper(k: int) -> None:
    units = make_units(random_graph(2, 120))
    prices = Prices()
    mine = cost(units, make_plan(units, k, prices), prices)
    for name, baseline in BASELINES.items():
        if name != "each":
            assert mine <= cost(units, baseline(units, units.weights(), k), prices), name


def test_the_same_graph_keeps_its_plan_and_a_small_change_moves_little() -> None:
    graph = random_graph(3, 100)
    units = make_units(graph)
    plan = make_plan(units, 8, Prices())
    assert make_plan(units, 8, Prices(before=tuple(plan), clean=frozenset(plan))) == plan
    first, *rest = graph.modules
    changed = make_units(make_graph("changed", [replace(first, size=first.size + 1000), *rest]))
    dirty = plan[next(unit for unit in range(len(units)) if units.name(unit) == first.name)]
    prices = Prices(before=tuple(plan), clean=frozenset(plan) - {dirty})
    again = make_plan(changed, 8, prices)
    assert cost(changed, again, prices) <= cost(changed, plan, prices)
    assert moved_bytes(changed, again, plan) <= graph.size / 20
    assert sent_bytes(changed, again, prices) <= sent_bytes(changed, plan, prices) * 1.1


def test_new_modules_and_fewer_layers_are_taken_in() -> None:
    units = make_units(random_graph(5, 30))
    before = tuple(unit % 7 if unit % 5 else -1 for unit in range(len(units)))
    assert len(set(make_plan(units, 3, Prices(before=before)))) <= 3


@pytest.mark.parametrize(("k", "said"), [(0, "at least one layer"), (-1, "at least one"), (513, "at most 512 layers")])
def test_no_layers_and_too_many_are_refused(k: int, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        make_plan(units_of(Module("a", 1)), k, Prices())


def test_what_changes_least_is_at_the_bottom() -> None:
    units = units_of(Module("wild", 10_000_000, chance=0.9), Module("calm", 10_000_000, chance=0.01))
    plan = make_plan(units, 2, Prices())
    bottom, top = stacked(units, plan)
    assert [units.name(plan.index(layer)) for layer in (bottom, top)] == ["calm", "wild"]


def test_the_plan_does_not_depend_on_the_hash_seed() -> None:
    program = (
        "from layerfs.plan.planner import make_plan; from layerfs.plan.cost import Prices\n"
        "from layerfs.plan.units import make_units; from tests.plan.graphs import random_graph\n"
        "print(make_plan(make_units(random_graph(6, 60)), 5, Prices()))"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1]
