"""What others do, on a graph that can be followed by hand."""

import pytest

from layerfs.plan.baselines import BASELINES
from layerfs.plan.graph import Module
from layerfs.plan.units import make_units
from tests.plan.graphs import random_graph, units_of


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "each"])
@pytest.mark.parametrize("k", [1, 2, 7, 100])
def test_every_unit_is_placed_in_at_most_k_layers(name: str, k: int) -> None:
    units = make_units(random_graph(1, 40))
    plan = BASELINES[name](units, units.weights(), k)
    assert len(plan) == len(units)
    assert min(plan) >= 0
    assert len(set(plan)) <= k


def named(name: str, k: int, *modules: Module) -> list[set[str]]:
    units = units_of(*modules)
    plan = BASELINES[name](units, units.weights(), k)
    return [{units.name(u) for u, layer in enumerate(plan) if layer == number} for number in sorted(set(plan))]


def test_the_popularity_contest_counts_ways() -> None:
    diamond = [
        Module("libc", 1),
        Module("left", 1, depends=("libc",)),
        Module("right", 1, depends=("libc",)),
        Module("app", 1, depends=("left", "right", "libc")),
    ]
    assert named("nix", 2, *diamond) == [{"libc"}, {"app", "left", "right"}]


def test_greedy_merges_what_is_alike() -> None:
    calm = [Module(name, 1000, chance=0.001) for name in ("a", "b")]
    wild = [Module(name, 10, chance=0.9) for name in ("y", "z")]
    assert named("greedy", 2, *calm, *wild) == [{"a", "b"}, {"y", "z"}]


def test_ostree_puts_the_largest_alone() -> None:
    small = [Module(f"s{n}", 10 + n) for n in range(6)]
    assert {"big"} in named("ostree", 4, Module("big", 100_000), *small)


def test_each_and_one_are_the_ends() -> None:
    modules = [Module(name, 1) for name in "abc"]
    assert named("each", 1, *modules) == [{"a"}, {"b"}, {"c"}]
    assert named("one", 3, *modules) == [{"a", "b", "c"}]
