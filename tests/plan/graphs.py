"""Small graphs of modules, written from literals and at random."""

import random
from collections.abc import Iterable

from layerfs.plan.cost import Prices, cost
from layerfs.plan.graph import Graph, Module, make_graph
from layerfs.plan.units import Units, make_units


def units_of(*modules: Module) -> Units:
    return make_units(make_graph("test", modules))


def random_graph(seed: int, count: int) -> Graph:
    """A graph whose changes spread if the seed is even, and whose modules share a source now and then."""
    chance = random.Random(seed)
    return make_graph(
        f"random {seed}",
        [
            Module(
                f"m{number}",
                chance.choice([100, 1000, 100_000, 10_000_000, chance.randint(1, 999_999)]),
                depends=tuple(f"m{lower}" for lower in range(number) if chance.random() < 0.3),
                chance=round(chance.random() ** 3, 3),
                source=chance.choice(["", "", "shared"]),
                rebuilds=seed % 2 == 0,
            )
            for number in range(count)
        ],
    )


def partitions(count: int, k: int) -> Iterable[list[int]]:
    """Every division of some units into at most k layers."""
    found: list[list[int]] = [[]]
    for _ in range(count):
        found = [[*plan, layer] for plan in found for layer in range(min(k, max(plan, default=-1) + 2))]
    return found


def cheapest(units: Units, k: int, prices: Prices) -> float:
    return min(cost(units, plan, prices) for plan in partitions(len(units), k))
