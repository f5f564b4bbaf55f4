"""The best segments of an order are those that trying all of them finds."""

from itertools import combinations

import pytest

from layerfs.plan.cost import Prices, cost
from layerfs.plan.segments import best_segments
from layerfs.plan.units import make_units
from tests.plan.graphs import random_graph


@pytest.mark.parametrize("seed", range(12))
def test_segments_are_the_best_of_all(seed: int) -> None:
    units = make_units(random_graph(seed, 8))
    order, k = list(range(len(units))), 3
    found = best_segments(units, order, units.weights(), k, 1000)
    tried = [
        [sum(unit >= cut for cut in cuts) for unit in order]
        for count in range(k)
        for cuts in combinations(order[1:], count)
    ]
    prices = Prices(layer=1000)
    assert cost(units, found, prices) == pytest.approx(min(cost(units, plan, prices) for plan in tried))


def test_a_long_order_is_cut_and_still_divided() -> None:
    units = make_units(random_graph(1, 700))
    found = best_segments(units, list(range(len(units))), units.weights(), 5, 0)
    assert sorted(found) == found
    assert 1 < len(set(found)) <= 5
