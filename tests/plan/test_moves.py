"""Moves make a plan cheaper, and never break the bound."""

import pytest

from layerfs.plan.cost import Prices, cost
from layerfs.plan.graph import Module
from layerfs.plan.moves import improve
from layerfs.plan.units import make_units
from tests.plan.graphs import random_graph, units_of


@pytest.mark.parametrize("seed", range(8))
def test_moves_never_make_it_dearer(seed: int) -> None:
    units = make_units(random_graph(seed, 12))
    prices, plan = Prices(layer=10), [unit % 3 for unit in range(len(units))]
    better = improve(units, plan, 3, prices)
    assert cost(units, better, prices) <= cost(units, plan, prices)
    assert len(set(better)) <= 3


def test_a_misplaced_module_among_many_goes_where_it_belongs() -> None:
    steady = [Module(f"s{n:02}", 1_000_000, chance=0.001) for n in range(40)]
    wild = [Module(f"w{n:02}", 1000, chance=0.5) for n in range(10)]
    units = units_of(*steady, *wild)
    plan = [int(units.name(unit).startswith("w") or units.name(unit) == "s00") for unit in range(len(units))]
    better = improve(units, plan, 2, Prices(layer=0))
    assert better == [int(units.name(unit).startswith("w")) for unit in range(len(units))]
