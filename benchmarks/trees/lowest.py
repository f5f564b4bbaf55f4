"""Trees that are whole in the lowest layer, below empty ones: what a program finds there, however many layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.model import BuiltTree
from benchmarks.trees.synthetic import VERSION, lists_of


def build(name: str, layers: int, cache: Path, make: Callable[[Path], None]) -> BuiltTree:
    """Build or find the tree; `make` makes its content under the name that it is given, whole or not at all."""
    home = cache / "trees" / VERSION / name
    final = home / str(layers)
    base = home / "1/000"
    if not base.exists():
        make(base)
    present, absent = lists_of(home / "1", base)
    if not final.exists():
        final.mkdir(parents=True)
        for index in range(layers - 1):
            (final / f"{index:03d}").mkdir()
    lowers = (*(final / f"{index:03d}" for index in range(layers - 1)), base)
    return BuiltTree(name, lowers, base, present, absent, present.read_bytes().count(b"\0"))
