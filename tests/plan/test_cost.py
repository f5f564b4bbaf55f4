"""The objective, by hand."""

import pytest

from layerfs.plan.cost import Prices, cost, expected_bytes, layer_weights, moved_bytes, same_layers, sent_bytes
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
    assert moved_bytes(units, [0, 1], (-1, 1)) == 0
    assert cost(units, [0, 1], Prices(layer=7, move=2)) == pytest.approx(14)
    before = Prices(layer=7, move=2, before=(0, 1), clean=frozenset([0, 1]))
    assert cost(units, [0, 1], before) == pytest.approx(14)
    assert cost(units, [0, 0], before) == pytest.approx(7 + 2 * 110)


def test_only_layers_that_stand_as_they_were_are_not_sent() -> None:
    units = units_of(*(Module(name, size) for name, size in {"a": 1, "b": 10, "c": 100, "d": 1000}.items()))
    before = Prices(before=(0, 0, 1, 2), clean=frozenset([0, 1]))
    assert sent_bytes(units, [0, 0, 1, 2], before) == 1000
    assert sent_bytes(units, [0, 1, 1, 2], before) == 1111  # both layers of what moved
    assert sent_bytes(units, [0, 0, 1, 1], before) == 1100
    assert sent_bytes(units, [0, 0, 3, 2], before) == 1100
    assert same_layers([0, 0, 1, 2], before) == {0, 1}
    new = Prices(before=(0, -1, 1, 2), clean=frozenset([0, 1, 2]))
    assert sent_bytes(units, [0, 0, 1, 2], new) == 11


def test_one_layer_for_each_costs_the_same_by_both_ways() -> None:
    from layerfs.plan.units import make_units

    units = make_units(random_graph(4, 9))
    apart = list(range(len(units)))
    weights = layer_weights(units, apart)
    assert expected_bytes(units, apart) == pytest.approx(sum(units.sizes[u] * chance_of(weights[u]) for u in apart))
