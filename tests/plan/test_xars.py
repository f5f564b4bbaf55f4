"""XARs as modules."""

import os
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument
from layerfs.plan.xars import read_xars
from layerfs.xar.search import Search
from tests.xar.packages import DIAMOND, fakes


def test_packages_come_with_what_they_depend_on(scratch: Path) -> None:
    place = fakes(scratch / "place", DIAMOND)
    graph = read_xars([os.fsencode(place / "a.xar")], Search([]))
    assert {m.name: m.depends for m in graph.modules} == {
        f"{name}.xar": tuple(f"{lower}.xar" for lower in lowers) for name, lowers in DIAMOND.items()
    }
    assert {(m.version, m.size, m.rebuilds) for m in graph.modules} == {("1", (place / "a.xar").stat().st_size, False)}


def test_a_directory_is_no_xar(scratch: Path) -> None:
    with pytest.raises(InvalidArgument, match="is a directory, no XAR"):
        read_xars([os.fsencode(scratch)], Search([]))
