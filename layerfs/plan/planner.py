"""The planner: at most K layers for the units of a graph, cheap by the objective in cost.py. Deterministic.

Where hazards are independent, and small, a layer costs about S * W (its bytes, its weight). A unit (s, w) is then best
in the layer with the least s * W + w * S, which is decided by w / s alone: the best layers are segments of the order by
w / s. So segments of that order are searched exactly (segments.py), and also those of the order by weight; where units
share sources, of the order in which these stand together; where changes spread to dependants, of the order of
dependencies. Beside these stand the baselines that respect K, the previous plan, and what follows it (following.py).
The cheapest are improved by single moves. The work grows with n log n, for a bounded number of layers.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from layerfs.errors import InvalidArgument
from layerfs.plan.baselines import BASELINES, by_ratio
from layerfs.plan.cost import Assignment, Prices, cost, layer_sizes, layer_weights
from layerfs.plan.following import divide, follow
from layerfs.plan.moves import improve
from layerfs.plan.segments import best_segments
from layerfs.plan.units import Units

_MANY: Final = 200_000  # units times layers from which only one plan is improved
LAYERS: Final = 512  # no plan has more: kernel overlayfs stacks 500


def make_plan(units: Units, k: int, prices: Prices) -> Assignment:
    """Return the layer of each unit. Raises InvalidArgument for a K below 1 or above LAYERS."""
    if k < 1:
        raise InvalidArgument(f"a plan has at least one layer, not {k}", "give -k 1 or more")
    if k > LAYERS:
        raise InvalidArgument(f"a plan has at most {LAYERS} layers, not {k}", "kernel overlayfs stacks 500")
    k = min(k, len(units))
    weights = units.weights()
    found = [align(units, plan, prices.before, k) for plan in _candidates(units, weights, k, prices)]
    costs = [cost(units, plan, prices) for plan in found]
    ranked = sorted(range(len(found)), key=costs.__getitem__)
    best = [found[number] for number in ranked[: 3 if len(units) * k < _MANY else 1]]
    improved = [improve(units, list(plan), k, prices) for plan in best]
    return min([*improved, *best], key=lambda plan: cost(units, plan, prices))


def _candidates(units: Units, weights: Sequence[float], k: int, prices: Prices) -> Iterator[Assignment]:
    if prices.before and max(prices.before) >= 0:
        yield _kept(units, weights, prices.before, k)
        yield from follow(units, weights, k, prices)
    plan = [0] * len(units)
    for number, layer in enumerate(divide(units, range(len(units)), weights, k, prices.layer)):
        for unit in layer:
            plan[unit] = number
    yield plan
    orders = [by_ratio(units, weights), sorted(range(len(units)), key=lambda u: (weights[u], units.name(u)))]
    if any(units.made):
        orders.append(_by_source(units, weights))
    if any(units.reached):
        orders.append(list(range(len(units))))
    for order in orders:
        yield best_segments(units, order, weights, k, prices.layer)
    for name, baseline in BASELINES.items():
        if name != "each" or len(units) <= k:
            yield baseline(units, weights, k)


def _by_source(units: Units, weights: Sequence[float]) -> list[int]:
    """Return units by weight per byte, those of one source together and counted as one."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for unit, sources in enumerate(units.made):
        groups.setdefault(sources or (-1 - unit,), []).append(unit)
    ratio = {
        key: max(weights[unit] for unit in group) / max(1, sum(units.sizes[unit] for unit in group))
        for key, group in groups.items()
    }
    ranked = sorted(groups, key=lambda key: (ratio[key], units.name(groups[key][0])))
    return [unit for key in ranked for unit in groups[key]]


def _kept(units: Units, weights: Sequence[float], before: Sequence[int], k: int) -> Assignment:
    """Return the previous plan with new units in the layer of the nearest weight; layers beyond k join the others."""
    olds = [unit for unit in range(len(units)) if 0 <= before[unit]]
    sizes: dict[int, int] = {}
    for unit in olds:
        sizes[before[unit]] = sizes.get(before[unit], 0) + units.sizes[unit]
    kept = sorted(sizes, key=lambda layer: (-sizes[layer], layer))[:k]
    rank = {layer: number for number, layer in enumerate(sorted(kept))}
    typical: dict[int, list[float]] = {layer: [] for layer in rank}
    for unit in olds:
        if before[unit] in typical:
            typical[before[unit]].append(weights[unit])
    means = {layer: sum(found) / len(found) for layer, found in typical.items()}
    return [
        old if old in rank else min(rank, key=lambda layer: (abs(means[layer] - weight), layer))
        for old, weight in zip(before, weights, strict=True)
    ]


def align(units: Units, plan: Assignment, before: Sequence[int], k: int) -> Assignment:
    """Number a plan's layers like those of the previous plan with which they share the most bytes."""
    if not before:
        numbers = {layer: number for number, layer in enumerate(sorted(set(plan)))}
        return [numbers[layer] for layer in plan]
    shared: dict[tuple[int, int], int] = {}
    for layer, old, size in zip(plan, before, units.sizes, strict=True):
        if old >= 0:
            shared[layer, old] = shared.get((layer, old), 0) + size
    new: dict[int, int] = {}
    for (layer, old), _ in sorted(shared.items(), key=lambda item: (-item[1], item[0])):
        if layer not in new and old not in new.values():
            new[layer] = old
    free = max(before) + 1
    for layer in sorted(set(plan) - set(new)):
        new[layer] = free
        free += 1
    return [new[layer] for layer in plan]


def stacked(units: Units, plan: Sequence[int]) -> list[int]:
    """Return the layers of a plan in the order of the stack, bottom first: what changes least is at the bottom."""
    weights, sizes = layer_weights(units, plan), layer_sizes(units, plan)
    return sorted(weights, key=lambda layer: (weights[layer], -sizes[layer], layer))
