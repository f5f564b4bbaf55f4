"""The objective, by hand."""

import pytest

from layerfs.plan.cost import Prices, cost, expected_bytes, layer_weights, moved_bytes
from layerfs.plan.graph import Module
from layerfs.plan.units import chance_of
from tests.plan.graphs import random_graph, units_of


def test_a_layer_is_sent_whole_when_one_of_its_modules_changes() -> None:
    units = units_of(Module("a", 100, chance=0.5), Module("b", 10, chance=0.2))
    assert expected_bytes(units, [0, 0]) == pytest.approx(110 * 0.6)
    assert expected_bytes(units, [0, 1]) == pytest.approx(52)
    assert expected_bytes(units, [5, 3]) == pytest.approx(52)


def test_what_reaches_two_modules_of_a_layer_counts_once() -> None:
    units = units_of(Module("a", 100, chance=0.5), Module("b", 10, depends=("a",), chance=0))
    assert expected_bytes(units, [0, 0]) == pytest.approx(55)
    assert chance_of(layer_weights(units, [0, 1])[1]) == pytest.approx(0.5)


def test_layers_and_moves_have_prices() -> None:
    units = units_of(Module("a", 100, chance=0), Module("b", 10, chance=0))
    assert cost(units, [0, 1], Prices(layer=7, move=2, before=(0, 0))) == pytest.approx(14 + 20)
    assert moved_bytes(units, [0, 1], (-1, 1)) == 0


def test_one_layer_for_each_costs_the_same_by_both_ways() -> None:
    from layerfs.plan.units import make_units

    units = make_units(random_graph(4, 9))
    apart = list(range(len(units)))
    weights = layer_weights(units, apart)
    assert expected_bytes(units, apart) == pytest.approx(sum(units.sizes[u] * chance_of(weights[u]) for u in apart))
