"""The best plan among those whose layers are segments of an order of the units.

The order is cut into at most `_ATOMS` pieces first, so the table of what each segment costs is small whatever the
graph; it is exact: hazards that reach several units of a segment count once. Given the atoms that a hazard reaches, the
hazard misses exactly the segments that lie in a gap between two of them; so a hazard's weight is added to its gaps, and
sums over both ends of a segment give the weight of all hazards that miss it.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final

from layerfs.plan.cost import Assignment
from layerfs.plan.units import Units, chance_of

_ATOMS: Final = 128  # pieces of the order; more only for more layers
_CUTS_TRIED: Final = 8  # at least; behind these the search ends once a plan costs twice the best; guessed


def best_segments(units: Units, order: Sequence[int], weights: Sequence[float], k: int, price: float) -> Assignment:
    """Return the cheapest plan with at most k layers that are segments of an order; `price` is that of one layer."""
    atoms = _cut(units, order, weights, min(max(_ATOMS, 2 * k), 640))
    table = _table(units, atoms)
    plan = [0] * len(units)
    for layer, (first, last) in enumerate(_partition(table, k, price)):
        for atom in atoms[first:last]:
            for unit in atom:
                plan[unit] = layer
    return plan


def _cut(units: Units, order: Sequence[int], weights: Sequence[float], most: int) -> list[list[int]]:
    """Cut an order into pieces of about equal bytes and weight; a unit as large as a piece stands alone."""
    if len(order) <= most:
        return [[unit] for unit in order]
    size, weight = max(1, sum(units.sizes[unit] for unit in order)), sum(weights[unit] for unit in order) or 1.0
    shares = [units.sizes[unit] / size + weights[unit] / weight + 1 / len(order) for unit in order]
    limit = 6 / most  # the shares add up to 3, and two neighbours have more than the limit
    atoms: list[list[int]] = []
    filled = limit
    for unit, share in zip(order, shares, strict=True):
        if filled + share > limit:
            atoms.append([])
            filled = 0.0
        atoms[-1].append(unit)
        filled += share
    return atoms


def _table(units: Units, atoms: Sequence[Sequence[int]]) -> list[list[float]]:
    """Return the expected bytes of each segment: [first][last - first]."""
    count = len(atoms)
    marks = [0] * len(units)
    for number, atom in enumerate(atoms):
        for unit in atom:
            marks[unit] = 1 << number
    together: dict[int, float] = {}
    for hazard, mask in enumerate(units.hit(marks)):
        if mask and units.own[hazard] > 0:
            together[mask] = together.get(mask, 0.0) + units.own[hazard]
    missed = _missed(together, count)
    whole = sum(together.values())
    sizes = [0, *accumulate(sum(units.sizes[unit] for unit in atom) for atom in atoms)]
    return [
        [
            (sizes[last + 1] - sizes[first]) * chance_of(max(0.0, whole - missed[first][last]))
            for last in range(first, count)
        ]
        for first in range(count)
    ]


def _missed(together: dict[int, float], count: int) -> list[list[float]]:
    """Return the weight of the hazards that miss each segment [first][last]."""
    missed = [[0.0] * count for _ in range(count)]
    for mask, weight in together.items():
        for before, after in pairwise([-1, *_bits(mask), count]):
            if after - before > 1:
                missed[before + 1][after - 1] += weight
    for first in range(count):  # a gap holds every segment that begins later and ends earlier
        row, above = missed[first], missed[first - 1] if first else [0.0] * count
        running = list(accumulate(reversed(row)))[::-1]
        missed[first] = [here + there for here, there in zip(running, above, strict=True)]
    return missed


def _bits(mask: int) -> list[int]:
    found = []
    while mask:
        lowest = mask & -mask
        found.append(lowest.bit_length() - 1)
        mask ^= lowest
    return found


def _partition(table: Sequence[Sequence[float]], k: int, price: float) -> list[tuple[int, int]]:
    """Return the cheapest division into at most k segments [first, behind the last]."""
    count = len(table)
    best = [0.0] + [float("inf")] * count  # with a number of layers, of the atoms before each place
    chosen: list[list[int]] = []
    ends = [float("inf")]
    for _ in range(min(k, count)):
        now, cut = [float("inf")] * (count + 1), [0] * (count + 1)
        for first, before in enumerate(best[:-1]):
            if before == float("inf"):
                continue
            for behind, more in enumerate(table[first], first + 1):
                if before + more < now[behind]:
                    now[behind], cut[behind] = before + more, first
        best = now
        chosen.append(cut)
        ends.append(now[count] + price * len(chosen))
        if len(chosen) > _CUTS_TRIED and ends[-1] > 2 * min(ends):
            break
    layers = min(range(len(ends)), key=ends.__getitem__)
    found = []
    behind = count
    for cut in reversed(chosen[:layers]):
        found.append((cut[behind], behind))
        behind = cut[behind]
    return found[::-1]
