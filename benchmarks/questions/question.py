"""The harness's other door: what a question must be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite


class Question(Protocol):
    """One question. The module's docstring is the question; `name` is its short form for --only."""

    name: str
    rounds: float
    """Multiplies the number of rounds: below 1 for what takes long."""

    def cases(self, scale: Scale) -> list[Case]:
        """Return the settings asked at this scale, the most telling first."""

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterable[Value]:
        """Mount through `site`, measure, yield values; each call starts with nothing mounted."""
