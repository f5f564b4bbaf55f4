"""A graph of modules as values, checked; modules are met by number, in the order of their names.

What it says comes from files of strangers: every number is bounded here, and every refusal names the module.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from layerfs.errors import InvalidArgument

MODULES: Final = 1_000_000  # more than any build graph that is planned as one
BYTES: Final = 1 << 50  # of one module
PROBABILITY: Final = 0.1  # that a module of which nothing is known changes from one build to the next; guessed


@dataclass(frozen=True, slots=True)
class Module:
    """What is placed in layers as one piece.

    `chance` is the probability that it changes by itself from one build to the next. `source` names what it is made of
    with others: these change together, with the greatest chance among them. A module that `rebuilds` changes with each
    of its dependencies.
    """

    name: str
    size: int  # bytes
    version: str = ""
    files: int = 0
    depends: tuple[str, ...] = ()
    chance: float = PROBABILITY
    source: str = ""
    rebuilds: bool = True


@dataclass(frozen=True, slots=True)
class Graph:
    """Modules in the order of their names; `depends` has for each the numbers of those that it depends on."""

    name: str
    modules: tuple[Module, ...]
    depends: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """All bytes."""
        return sum(module.size for module in self.modules)


def make_graph(name: str, modules: Iterable[Module]) -> Graph:
    """Return the graph of some modules. Raises InvalidArgument, which names the module that is wrong, and how."""
    ordered = sorted(modules, key=lambda module: module.name)
    if not ordered:
        raise InvalidArgument(f"{name} has no modules", "name a graph with at least one")
    if len(ordered) > MODULES:
        raise InvalidArgument(f"{name} has more than {MODULES} modules", "plan its parts")
    numbers: dict[str, int] = {}
    for number, module in enumerate(ordered):
        if module.name in numbers:
            raise InvalidArgument(f"{name} has two modules named {module.name}", "names must be unique")
        _check(name, module)
        numbers[module.name] = number
    return Graph(name, tuple(ordered), tuple(_numbered(name, module, numbers) for module in ordered))


def _check(graph: str, module: Module) -> None:
    where = f"module {module.name} of {graph}"
    if not module.name:
        raise InvalidArgument(f"a module of {graph} has no name", "give each one a name")
    for what, number in (("size", module.size), ("number of files", module.files)):
        if number < 0:
            raise InvalidArgument(f"{where} has a negative {what}: {number}", "it is 0 or more")
        if number > BYTES:
            raise InvalidArgument(f"{where} has an impossible {what}: {number}", f"at most {BYTES}")
    if not (math.isfinite(module.chance) and 0 <= module.chance <= 1):
        raise InvalidArgument(f"{where} changes with probability {module.chance}", "it is between 0 and 1")


def _numbered(graph: str, module: Module, numbers: dict[str, int]) -> tuple[int, ...]:
    unknown = next((name for name in module.depends if name not in numbers), None)
    if unknown is not None:
        raise InvalidArgument(
            f"module {module.name} of {graph} depends on {unknown}, which is unknown", "add it, or take it from depends"
        )
    return tuple(sorted({numbers[name] for name in module.depends} - {numbers[module.name]}))
