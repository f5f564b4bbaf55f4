"""A plan that follows another one, as a cache is kept: what must be sent anyway is divided anew, the rest stays.

A layer with a changed module is sent whole. So all that it holds can be put anywhere among the other layers that are
sent, for nothing. These make one pool, which is divided into as many layers as are free; a layer of which nothing has
changed joins the pool only if that pays: one that is likely to change soon, or a small one whose place is worth more.
What changed lately changes again soon, so the pool parts into few layers that are sent often, and others that are not.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from layerfs.plan.baselines import by_ratio
from layerfs.plan.cost import Assignment, Prices, layer_sizes, layer_weights
from layerfs.plan.moves import improve
from layerfs.plan.segments import best_segments
from layerfs.plan.units import Units, chance_of

_OPENED: Final = 8  # further layers that may join the pool
_LOOKED_AT: Final = 3  # layers that are tried for each of those, of each kind
_LARGE: Final = 5000  # units from which none is tried


def contract(units: Units, pool: Sequence[int], weights: Sequence[float]) -> tuple[Units, list[list[int]]]:
    """Return units contracted by source into independent ones, and which units each of these stands for.

    Where changes spread, a unit has the weight of all that reaches it: what several share is counted in each of them.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    spreads = any(units.reached)
    for unit in pool:
        alone = spreads or units.own[unit] > 0 or not units.made[unit]
        groups.setdefault((-1 - unit,) if alone else units.made[unit], []).append(unit)
    members = list(groups.values())
    nothing: tuple[tuple[int, ...], ...] = ((),) * len(members)
    small = Units(
        units.graph,
        tuple(tuple(module for unit in group for module in units.members[unit]) for group in members),
        tuple(sum(units.sizes[unit] for unit in group) for group in members),
        nothing,
        nothing,
        nothing,
        tuple(max(weights[unit] for unit in group) for group in members),
    )
    return small, members


def divide(units: Units, pool: Sequence[int], weights: Sequence[float], k: int, price: float) -> list[list[int]]:
    """Return at most k layers of a pool, each with its units: segments of two orders, improved by single moves."""
    small, members = contract(units, pool, weights)
    prices = Prices(price, 0)
    orders = (
        by_ratio(small, small.own),
        sorted(range(len(small)), key=lambda unit: (small.own[unit], small.name(unit))),
    )
    found = [improve(small, best_segments(small, order, small.own, k, price), k, prices) for order in orders]
    plan = min(found, key=lambda plan: _expected(small, plan) + price * len(set(plan)))
    layers: dict[int, list[int]] = {}
    for unit, layer in enumerate(plan):
        layers.setdefault(layer, []).extend(members[unit])
    return list(layers.values())


def _expected(units: Units, plan: Sequence[int]) -> float:
    sizes, weights = layer_sizes(units, plan), layer_weights(units, plan)
    return sum(sizes[layer] * chance_of(weights[layer]) for layer in sizes)


def follow(units: Units, weights: Sequence[float], k: int, prices: Prices) -> Iterator[Assignment]:
    """Yield plans after the previous one: the pool alone divided anew, then with further layers in it.

    New layers have numbers beyond those of the previous plan.
    """
    inside: dict[int, list[int]] = {}
    for unit, layer in enumerate(prices.before):
        inside.setdefault(layer, []).append(unit)
    sizes, changes = layer_sizes(units, prices.before), layer_weights(units, prices.before)
    expected = {layer: sizes[layer] * chance_of(changes[layer]) for layer in inside}
    kept = sorted((layer for layer in inside if layer in prices.clean), key=lambda layer: (-sizes[layer], layer))
    while len(kept) >= k and (len(kept) > k or len(kept) < len(inside)):
        kept.pop()  # the smallest
    attempt = _Attempt(units, weights, k, prices, inside)
    plan = attempt.plan(kept)
    best = attempt.cost(plan, kept)
    yield plan
    for _ in range(_OPENED if len(units) <= _LARGE else 0):
        likely = sorted(kept, key=lambda layer: (-expected[layer], layer))[:_LOOKED_AT]
        small = kept[-_LOOKED_AT:]
        tried = []
        for layer in dict.fromkeys([*likely, *small]):
            rest = [other for other in kept if other != layer]
            plan = attempt.plan(rest)
            tried.append((attempt.cost(plan, rest), layer, rest, plan))
        if not tried or min(tried)[0] >= best * (1 - 1e-9):
            return
        best, _, kept, plan = min(tried)
        yield plan


class _Attempt:
    """Builds plans that keep some layers of the previous one, and compares their costs."""

    def __init__(
        self, units: Units, weights: Sequence[float], k: int, prices: Prices, inside: dict[int, list[int]]
    ) -> None:
        self._units, self._weights, self._k, self._prices, self._inside = units, weights, k, prices, inside
        self._free = max(inside) + 1

    def plan(self, kept: Sequence[int]) -> Assignment:
        plan = [-1] * len(self._units)
        for layer in kept:
            for unit in self._inside[layer]:
                plan[unit] = layer
        pool = [unit for unit, layer in enumerate(plan) if layer < 0]
        if pool:
            layers = divide(self._units, pool, self._weights, self._k - len(kept), self._prices.layer)
            for number, group in enumerate(layers):
                for unit in group:
                    plan[unit] = self._free + number
        return plan

    def cost(self, plan: Assignment, kept: Sequence[int]) -> float:
        same = set(kept)
        sent = sum(size for layer, size in zip(plan, self._units.sizes, strict=True) if layer not in same)
        layers = self._prices.layer * len(set(plan))
        return _expected(self._units, plan) + layers + self._prices.move * sent
