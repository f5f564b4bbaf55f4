"""What others do, from their published descriptions, so that a plan can be compared. None looks at a previous plan.

one       everything in one layer
each      one layer for each module; does not respect K
nix       the popularity contest of `dockerTools.buildLayeredImage` (G. Christensen, 2018): a path counts once for each
          way by which a root leads to it; the K - 1 most popular have a layer each, all others share the last
ostree    the bins of rpm-ostree's `container encapsulate`: large packages alone, the others by how large they are and
          how often they change. Large and often mean here more than the median and three median deviations
greedy    start with a layer for each, then merge the two neighbours, in the order of chance per byte, whose merger
          costs the fewest expected bytes, until K are left
hashed    a bin for each module by the digest of its name
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from statistics import median
from typing import Final

from layerfs.plan.cost import Assignment
from layerfs.plan.units import Units, chance_of

_MOST: Final = 1e300  # popularity beyond this is equal: the ways through a graph can be exponentially many


def by_ratio(units: Units, weights: Sequence[float]) -> list[int]:
    """Return units by weight per byte, the steadiest first; equal ones by name."""
    ratio = [weight / max(size, 1) for weight, size in zip(weights, units.sizes, strict=True)]
    return sorted(range(len(units)), key=lambda unit: (ratio[unit], units.name(unit)))


def one(units: Units, weights: Sequence[float], k: int) -> Assignment:
    """Return the plan of one layer."""
    return [0] * len(units)


def each(units: Units, weights: Sequence[float], k: int) -> Assignment:
    """Return the plan of one layer for each unit."""
    return list(range(len(units)))


def nix(units: Units, weights: Sequence[float], k: int) -> Assignment:
    """Return the plan of the popularity contest."""
    popularity = [0.0] * len(units)
    for unit in range(len(units) - 1, -1, -1):
        popularity[unit] = popularity[unit] or 1.0  # a root
        for lower in units.depends[unit]:
            popularity[lower] = min(popularity[lower] + popularity[unit], _MOST)
    ranked = sorted(range(len(units)), key=lambda unit: (-popularity[unit], units.name(unit)))
    plan = [0] * len(units)
    for layer, unit in enumerate(ranked):
        plan[unit] = min(layer, k - 1)
    return plan


def ostree(units: Units, weights: Sequence[float], k: int) -> Assignment:
    """Return the plan of bins by size and frequency."""
    heavy, often = _outlying(units.sizes), _outlying(weights)
    ranked = sorted(range(len(units)), key=lambda unit: (-units.sizes[unit], units.name(unit)))
    alone = [unit for unit in ranked if units.sizes[unit] > heavy][: k // 2]
    plan = [-1] * len(units)
    for layer, unit in enumerate(alone):
        plan[unit] = layer
    left = k - len(alone)
    rest = [unit for unit in range(len(units)) if plan[unit] < 0]
    wild = [unit for unit in rest if weights[unit] > often] if left > 1 else []
    other = {*wild, *alone}
    calm = [unit for unit in ranked if unit not in other]
    bins = max(1, min(left // 3, len(wild))) if wild else 0
    start = len(alone)
    for group, first, count in ((sorted(wild, key=units.name), start, bins), (calm, start + bins, left - bins)):
        for place, unit in enumerate(group):
            plan[unit] = first + place * count // len(group)
    return plan


def _outlying(numbers: Sequence[float]) -> float:
    middle = median(numbers)
    return middle + 3 * median(abs(number - middle) for number in numbers)


def hashed(units: Units, weights: Sequence[float], k: int) -> Assignment:
    """Return the plan of bins by digest."""
    names = (units.name(unit).encode("utf-8", "surrogateescape") for unit in range(len(units)))
    return [int.from_bytes(hashlib.sha256(name).digest()[:8], "big") % k for name in names]


@dataclass(slots=True)
class _Run:
    """A run of merged neighbours; `last` is the position behind its end, -1 once it was merged into another run."""

    size: int
    weight: float
    last: int

    def merged(self, other: "_Run") -> float:
        """Return how many expected bytes more a merger costs, as if nothing reached both."""
        return (
            (self.size + other.size) * chance_of(self.weight + other.weight)
            - self.size * chance_of(self.weight)
            - other.size * chance_of(other.weight)
        )


def greedy(units: Units, weights: Sequence[float], k: int) -> Assignment:
    """Return the plan of greedy merging."""
    order = by_ratio(units, weights)
    runs = {place: _Run(units.sizes[unit], weights[unit], place + 1) for place, unit in enumerate(order)}
    first_of = {run.last: place for place, run in runs.items()}  # by where a run ends
    heap = [(runs[p].merged(runs[p + 1]), p, p + 1, p + 2) for p in range(len(order) - 1)]
    heapify(heap)
    while len(runs) > k:
        _, first, middle, last = heappop(heap)
        left, right = runs.get(first), runs.get(middle)
        if left is None or right is None or left.last != middle or right.last != last:
            continue
        runs[first] = whole = _Run(left.size + right.size, left.weight + right.weight, last)
        del runs[middle], first_of[middle]
        first_of[last] = first
        if last in runs:
            heappush(heap, (whole.merged(runs[last]), first, last, runs[last].last))
        if first in first_of:
            before = first_of[first]
            heappush(heap, (runs[before].merged(whole), before, first, last))
    plan = [0] * len(units)
    for layer, (first, run) in enumerate(sorted(runs.items())):
        for unit in order[first : run.last]:
            plan[unit] = layer
    return plan


Planner = Callable[[Units, Sequence[float], int], Assignment]

BASELINES: Final[dict[str, Planner]] = {
    "one": one,
    "each": each,
    "nix": nix,
    "ostree": ostree,
    "greedy": greedy,
    "hashed": hashed,
}
