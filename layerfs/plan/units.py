"""What is planned: units, each a module or a circle of modules that depend on each other, and the hazards behind them.

A hazard is what changes by itself: a source (what several modules are made of) or a unit. A unit changes when one of
the hazards that it is reached by does. Chances are kept as weights, w = -log(1 - p): those of independent hazards add.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from layerfs.plan.components import components
from layerfs.plan.graph import Graph

CERTAIN: Final = 1e-9  # a chance of 1 is taken for 1 less this, whose weight is finite
CHUNK: Final = 4096  # hazards that are followed at once, as the bits of a number
CLASSES: Final = 64  # different weights; where there are more, they are rounded to so many


@dataclass(frozen=True, slots=True)
class Units:
    """Units, numbered so that one comes after all that it depends on.

    `reached` has for each unit the units whose change rebuilds it; `own` the weight of each hazard; hazards are the
    units, and behind them the sources; `made` has for each unit the numbers of its sources among the hazards.
    """

    graph: Graph
    members: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]
    depends: tuple[tuple[int, ...], ...]
    reached: tuple[tuple[int, ...], ...]
    made: tuple[tuple[int, ...], ...]
    own: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.members)

    def name(self, unit: int) -> str:
        """The name of a unit's first module."""
        return self.graph.modules[self.members[unit][0]].name

    def hit(self, marks: Sequence[int]) -> list[int]:
        """Return for each hazard the union of the marks [bits] of all units that change with it."""
        union = list(marks) + [0] * (len(self.own) - len(marks))
        for unit in range(len(self) - 1, -1, -1):
            mark = union[unit]
            for lower in self.reached[unit]:
                union[lower] |= mark
            for source in self.made[unit]:
                union[source] |= mark
        return union

    def weights(self) -> list[float]:
        """Return the weight with which each unit changes: that of all hazards that reach it."""
        if not any(self.reached):
            return [self.own[unit] + sum(self.own[s] for s in self.made[unit]) for unit in range(len(self))]
        total = [0.0] * len(self)
        for weight, hazards in sorted(_classes(self.own).items()):
            for start in range(0, len(hazards), CHUNK):
                bits = dict(zip(hazards[start : start + CHUNK], map((1).__lshift__, range(CHUNK)), strict=False))
                for unit, count in enumerate(self._counts(bits)):
                    total[unit] += weight * count
        return total

    def _counts(self, bits: dict[int, int]) -> list[int]:
        """Return how many of some hazards reach each unit."""
        masks: list[int] = []
        for unit in range(len(self)):
            mask = bits.get(unit, 0)
            for lower in self.reached[unit]:
                mask |= masks[lower]
            for source in self.made[unit]:
                mask |= bits.get(source, 0)
            masks.append(mask)
        return [mask.bit_count() for mask in masks]


def make_units(graph: Graph) -> Units:
    """Contract the circles of a graph."""
    members = components(graph.depends)
    place = {module: unit for unit, group in enumerate(members) for module in group}
    depends, reached, made, own = [], [], [], []
    sources: dict[str, int] = {}
    behind: list[float] = []
    for unit, group in enumerate(members):
        depends.append(_outer(graph, group, place, unit, rebuilt=False))
        reached.append(_outer(graph, group, place, unit, rebuilt=True))
        mine, names = 0.0, set()
        for module in (graph.modules[number] for number in group):
            weight = weight_of(module.chance)
            if not module.source:
                mine += weight
                continue
            number = sources.setdefault(module.source, len(behind))
            if number == len(behind):
                behind.append(0.0)
            behind[number] = max(behind[number], weight)
            names.add(number)
        own.append(mine)
        made.append(tuple(sorted(len(members) + number for number in names)))
    sizes = tuple(sum(graph.modules[number].size for number in group) for group in members)
    units = (tuple(map(tuple, members)), sizes, tuple(depends), tuple(reached), tuple(made))
    return Units(graph, *units, tuple(own + behind))


def weight_of(chance: float) -> float:
    """Return -log(1 - p)."""
    return -math.log1p(-min(chance, 1 - CERTAIN))


def chance_of(weight: float) -> float:
    """Return the probability that a weight stands for."""
    return -math.expm1(-weight)


def _outer(graph: Graph, group: Sequence[int], place: dict[int, int], unit: int, *, rebuilt: bool) -> tuple[int, ...]:
    """Return the units that a unit depends on, or those of them that rebuild it."""
    modules = [number for number in group if graph.modules[number].rebuilds or not rebuilt]
    return tuple(sorted({place[lower] for number in modules for lower in graph.depends[number]} - {unit}))


def _classes(own: Sequence[float]) -> dict[float, list[int]]:
    """Return hazards by their weight; if there are many weights, sorted hazards share the mean of their class."""
    exact: dict[float, list[int]] = {}
    for hazard, weight in enumerate(own):
        if weight > 0:
            exact.setdefault(weight, []).append(hazard)
    if len(exact) <= CLASSES:
        return exact
    ordered = sorted((hazard for group in exact.values() for hazard in group), key=lambda hazard: own[hazard])
    step = -(-len(ordered) // CLASSES)
    groups = [ordered[start : start + step] for start in range(0, len(ordered), step)]
    rounded: dict[float, list[int]] = {}
    for group in groups:
        rounded.setdefault(sum(own[hazard] for hazard in group) / len(group), []).extend(group)
    return rounded
