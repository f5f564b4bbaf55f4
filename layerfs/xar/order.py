"""The order of packages in a stack, as graph.py describes it; packages are numbers here, with names for messages."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import Final

from layerfs.errors import InvalidArgument

_LONGEST_PATH: Final = 12  # packages of a path that a message names; the rest is counted


@dataclass(frozen=True, slots=True)
class DependencyGraph:
    """What each package depends on, in order; the keys stand in the order of a depth-first walk from the named ones.

    `given` are the packages that the user named, in their order.
    """

    edges: Mapping[int, Sequence[int]]
    given: Sequence[int]
    names: Sequence[str]

    def order(self) -> list[int]:
        """Return all packages, top first. Raises InvalidArgument for a cycle, and for an impossible order of names."""
        order = self._sort(())
        if len(order) < len(self.edges):
            raise self._cycle(set(order))
        if len(self.given) > 1:
            order = self._sort(pairwise(self.given))
            if len(order) < len(self.edges):
                raise self._impossible()
        return order

    def _sort(self, chain: Iterable[tuple[int, int]]) -> list[int]:
        """Return the packages, top first, without those that are in a cycle or below one."""
        below = {index: list(depends) for index, depends in self.edges.items()}
        for upper, lower in chain:
            below[upper].append(lower)
        ranks = {index: rank for rank, index in enumerate(self.edges)}
        above = dict.fromkeys(self.edges, 0)
        for lowers in below.values():
            for lower in lowers:
                above[lower] += 1
        ready = [(ranks[index], index) for index, count in above.items() if count == 0]
        heapify(ready)
        order = []
        while ready:
            _, index = heappop(ready)
            order.append(index)
            for lower in below[index]:
                above[lower] -= 1
                if above[lower] == 0:
                    heappush(ready, (ranks[lower], lower))
        return order

    def _cycle(self, placed: set[int]) -> InvalidArgument:
        """Return the error that names a cycle. Each package that was not placed has a dependant that was not placed."""
        left = [index for index in self.edges if index not in placed]
        dependant = {lower: index for index in reversed(left) for lower in self.edges[index]}  # the first one stays
        trail = _until_repeated(left[0], dependant)
        downwards = trail[::-1]
        first = min(range(len(downwards)), key=lambda at: left.index(downwards[at]))
        loop = downwards[first:] + downwards[: first + 1]
        return InvalidArgument(
            f"packages depend on each other in a circle: {self._path(loop)}", "one of them must do without the next"
        )

    def _impossible(self) -> InvalidArgument:
        """Return the error for a layer that was named above one that depends on it."""
        for number, dependant in enumerate(self.given):
            came = self._reached(dependant)
            lower = next((index for index in self.given[:number] if index in came), None)
            if lower is not None:
                trail = [lower]
                while trail[-1] != dependant:
                    trail.append(came[trail[-1]])
                below, above = self.names[lower], self.names[dependant]
                return InvalidArgument(
                    f"{below} is given above {above}, which depends on it: {self._path(trail[::-1])}",
                    f"give {below} after {above}",
                )
        raise AssertionError("an order that nothing forbids")

    def _reached(self, index: int) -> dict[int, int]:
        """Return all that a package depends on, each with whom it was reached through."""
        came = {index: index}
        stack = [index]
        while stack:
            step = stack.pop()
            for lower in self.edges[step]:
                if lower not in came:
                    came[lower] = step
                    stack.append(lower)
        return came

    def _path(self, trail: Sequence[int]) -> str:
        """Return `A -> B -> C`; the middle of a long one is counted."""
        names = [self.names[index] for index in trail]
        if len(names) > _LONGEST_PATH:
            half = _LONGEST_PATH // 2
            names = [*names[:half], f"({len(names) - 2 * half} more)", *names[-half:]]
        return " -> ".join(names)


def _until_repeated(start: int, following: Mapping[int, int]) -> list[int]:
    """Follow the mapping from `start` and return the circle in which this ends."""
    trail: dict[int, int] = {}
    step = start
    while step not in trail:
        trail[step] = len(trail)
        step = following[step]
    return list(trail)[trail[step] :]
