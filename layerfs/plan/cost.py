"""The objective: what a plan costs.

    cost(plan) = sum over layers L of bytes(L) * P(L changes)      expected bytes re-transferred for the next build
               + layer price * number of layers
               + move price * bytes of the layers that are not as they were in the previous plan

The last line has what is sent now: a layer is not sent if it has the modules that it had, and none of them changed. So
a module that moves costs both its layers, unless they are sent anyway.

A layer changes when one of its units does: P(L) = 1 - exp(-W), W the weight of all hazards that reach a unit of L, each
counted once. A plan is here a list of layer numbers, one for each unit; layers of a plan with a previous one keep their
numbers, from 0, so a move is a number that differs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from layerfs.plan.units import Units, chance_of

# Bytes: what a layer more costs each mount and 20,000 cold lookups through FUSE, in bytes that take as long to fetch at
# 100 MB/s (benchmarks/planned.py, benchmarks/results/planning/prices.json).
LAYER_PRICE: Final = 1_665_096
MOVE_PRICE: Final = 0.1  # for each byte sent now; a division lives for about ten builds; guessed

Assignment = list[int]


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices of layers and moves; `before` has the previous layer of each unit, -1 for a new unit.

    `clean` are the previous layers whose modules are all there, unchanged.
    """

    layer: float = LAYER_PRICE
    move: float = MOVE_PRICE
    before: tuple[int, ...] = ()
    clean: frozenset[int] = frozenset()


def layer_weights(units: Units, plan: Sequence[int]) -> dict[int, float]:
    """Return the weight with which each layer of a plan changes, exactly."""
    total = dict.fromkeys(sorted(set(plan)), 0.0)
    numbers = {layer: place for place, layer in enumerate(total)}
    layers = list(total)
    together: dict[int, float] = {}
    for hazard, mask in enumerate(units.hit([1 << numbers[layer] for layer in plan])):
        if units.own[hazard] > 0:
            together[mask] = together.get(mask, 0.0) + units.own[hazard]
    for mask, weight in together.items():
        while mask:
            lowest = mask & -mask
            total[layers[lowest.bit_length() - 1]] += weight
            mask ^= lowest
    return total


def layer_sizes(units: Units, plan: Sequence[int]) -> dict[int, int]:
    """Return the bytes of each layer."""
    sizes = dict.fromkeys(sorted(set(plan)), 0)
    for unit, layer in enumerate(plan):
        sizes[layer] += units.sizes[unit]
    return sizes


def expected_bytes(units: Units, plan: Sequence[int]) -> float:
    """Return the bytes that the next build is expected to re-transfer."""
    if len(set(plan)) == len(units):  # one layer for each unit: many layers, but no union of hazards to be made
        return sum(size * chance_of(weight) for size, weight in zip(units.sizes, units.weights(), strict=True))
    sizes, weights = layer_sizes(units, plan), layer_weights(units, plan)
    return sum(sizes[layer] * chance_of(weights[layer]) for layer in sizes)


def moved_bytes(units: Units, plan: Sequence[int], before: Sequence[int]) -> int:
    """Return the bytes of the units that left the layer in which they were."""
    pairs = zip(plan, before, units.sizes, strict=True) if before else ()
    return sum(size for layer, old, size in pairs if old >= 0 and layer != old)


def same_layers(plan: Sequence[int], prices: Prices) -> set[int]:
    """Return the layers of a plan that have not changed since the previous one: they are not sent."""
    if not prices.before:
        return set()
    same = set(prices.clean) & set(plan)
    for layer, old in zip(plan, prices.before, strict=True):
        if layer != old:
            same -= {layer, old}
    return same


def sent_bytes(units: Units, plan: Sequence[int], prices: Prices) -> int:
    """Return the bytes of the layers that are sent now; 0 without a previous plan, since then all layers are sent."""
    if not prices.before:
        return 0
    same = same_layers(plan, prices)
    return sum(size for layer, size in zip(plan, units.sizes, strict=True) if layer not in same)


def cost(units: Units, plan: Sequence[int], prices: Prices) -> float:
    """Return the objective of a plan."""
    extra = prices.layer * len(set(plan)) + prices.move * sent_bytes(units, plan, prices)
    return expected_bytes(units, plan) + extra
