"""A plan improved by moving one unit at a time, as long as that makes it cheaper.

Where no change spreads, what a move saves is known from the two layers' sums; what is sent now is not looked at. Where
changes spread, the whole plan is evaluated again for each move that is tried, so only small graphs are improved in this
way (following.py improves large ones as if their changes did not spread).
"""

from collections.abc import Iterator, Sequence
from typing import Final

from layerfs.plan.cost import Assignment, Prices, cost, layer_sizes, layer_weights
from layerfs.plan.units import Units, chance_of

PASSES: Final = 4  # over all units, at most
_TRIES: Final = 3_000_000  # units times layers that are looked at in all passes
_WORK: Final = 1_000_000  # units and edges that are evaluated again in all tries
_FEW: Final = 32  # units, up to which exchanges of two are tried as well; guessed


def improve(units: Units, plan: Sequence[int], k: int, prices: Prices) -> Assignment:
    """Return a plan that costs no more, and has no more than k layers."""
    if any(units.reached) or any(units.made):
        return _by_evaluation(units, list(plan), k, prices)
    return _by_sums(units, list(plan), k, prices)


def _by_evaluation(units: Units, plan: Assignment, k: int, prices: Prices) -> Assignment:
    edges = sum(map(len, units.reached)) + sum(map(len, units.made))
    if len(units) * (k + 1) * (len(units) + edges) * PASSES > _WORK * PASSES:
        return plan
    best = cost(units, plan, prices)
    for _ in range(PASSES):
        before = best
        for trial in _neighbours(units, plan, k):
            now = cost(units, trial, prices)
            if now < best * (1 - 1e-12):
                best, plan[:] = now, trial
        if best == before:
            break
    return plan


def _neighbours(units: Units, plan: Assignment, k: int) -> Iterator[Assignment]:
    """Yield the plans that one move leads to, then those of one exchange; the plan may change between two yields."""
    for unit in range(len(units)):
        for layer in _targets(plan, k):
            if layer != plan[unit]:
                yield [*plan[:unit], layer, *plan[unit + 1 :]]
    if len(units) > _FEW:
        return
    for one in range(len(units)):
        for other in range(one):
            if plan[one] != plan[other]:
                trial = list(plan)
                trial[one], trial[other] = plan[other], plan[one]
                yield trial


def _targets(plan: Assignment, k: int) -> list[int]:
    """Return the layers to which a unit may move; the last is a new one, if there may be one more."""
    there = sorted(set(plan))
    return [*there, there[-1] + 1] if len(there) < k else there


def _by_sums(units: Units, plan: Assignment, k: int, prices: Prices) -> Assignment:
    if len(units) <= _FEW:
        plan = _by_evaluation(units, plan, k, prices)
    sizes, weights = dict(layer_sizes(units, plan)), layer_weights(units, plan)
    counts: dict[int, int] = {}
    for layer in plan:
        counts[layer] = counts.get(layer, 0) + 1
    passes = min(PASSES, max(1, _TRIES // (len(units) * len(sizes))))
    for _ in range(passes):
        moved = 0
        for unit, here in enumerate(plan):
            size, weight = units.sizes[unit], units.own[unit]
            left = (sizes[here] - size) * chance_of(max(0.0, weights[here] - weight))
            saved = sizes[here] * chance_of(weights[here]) - left + (prices.layer if counts[here] == 1 else 0.0)
            best, gain = here, max(1e-9, saved * 1e-9)
            for layer in sizes:
                if layer == here:
                    continue
                more = (sizes[layer] + size) * chance_of(weights[layer] + weight)
                more -= sizes[layer] * chance_of(weights[layer])
                if saved - more > gain:
                    best, gain = layer, saved - more
            if best == here:
                continue
            moved += 1
            plan[unit] = best
            for layer, sign in ((here, -1), (best, 1)):
                sizes[layer] += sign * size
                weights[layer] += sign * weight
                counts[layer] += sign
            if not counts[here]:
                del sizes[here], weights[here], counts[here]
        if not moved:
            break
    return plan
