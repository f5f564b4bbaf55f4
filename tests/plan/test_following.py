"""A plan that follows another one."""

import pytest

from layerfs.plan.cost import Prices, cost, same_layers, sent_bytes
from layerfs.plan.following import contract, divide, follow
from layerfs.plan.graph import Module
from layerfs.plan.units import make_units
from tests.plan.graphs import random_graph, units_of


def test_modules_of_one_source_become_one_piece() -> None:
    units = units_of(
        Module("a", 1, chance=0.1, source="s", rebuilds=False),
        Module("b", 10, chance=0.3, source="s", rebuilds=False),
        Module("c", 100, chance=0.2, rebuilds=False),
        Module("d", 1000, chance=0.2, rebuilds=False),
    )
    small, members = contract(units, [0, 1, 2], units.weights())
    assert (small.sizes, members) == ((11, 100), [[0, 1], [2]])
    assert small.own == pytest.approx((units.weights()[0], units.weights()[2]))


def test_a_pool_is_divided_into_what_changes_often_and_what_does_not() -> None:
    steady = [Module(f"s{n:02}", 1_000_000, chance=0.01) for n in range(20)]
    wild = [Module(f"w{n:02}", 1_000_000, chance=0.8) for n in range(20)]
    units = units_of(*steady, *wild)
    layers = divide(units, range(len(units)), units.weights(), 2, 0)
    assert sorted(sorted({units.name(unit)[0] for unit in layer}) for layer in layers) == [["s"], ["w"]]


def test_what_is_sent_anyway_is_divided_anew_and_the_rest_stays() -> None:
    steady = [Module(f"s{n:02}", 1_000_000, chance=0.001) for n in range(10)]
    mixed = [Module(f"m{n:02}", 1_000_000, chance=0.9 if n % 2 else 0.001) for n in range(10)]
    units = units_of(*steady, *mixed)
    before = tuple(int(units.name(unit).startswith("m")) for unit in range(len(units)))
    prices = Prices(layer=0, before=before, clean=frozenset([0]))
    first = next(iter(follow(units, units.weights(), 3, prices)))
    assert same_layers(first, prices) == {0}
    assert sent_bytes(units, first, prices) == 10_000_000
    parts = {layer: {units.name(u) for u in range(len(units)) if first[u] == layer} for layer in set(first) - {0}}
    assert sorted(len({int(name[1:]) % 2 for name in names}) for names in parts.values()) == [1, 1]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("k", [1, 3, 9])
def test_no_plan_has_more_layers_than_k(seed: int, k: int) -> None:
    units = make_units(random_graph(seed, 30))
    before = tuple(unit % 6 if unit % 5 else -1 for unit in range(len(units)))
    prices = Prices(layer=1000, before=before, clean=frozenset([1, 3, 4]))
    plans = list(follow(units, units.weights(), k, prices))
    assert plans
    assert all(len(set(plan)) <= k and min(plan) >= 0 for plan in plans)
    assert all(cost(units, plan, prices) > 0 for plan in plans)


def test_a_plan_of_which_nothing_changed_stays() -> None:
    units = units_of(Module("a", 10, chance=0.1), Module("b", 10, chance=0.1))
    prices = Prices(layer=0, before=(0, 1), clean=frozenset([0, 1]))
    assert next(iter(follow(units, units.weights(), 2, prices))) == [0, 1]
