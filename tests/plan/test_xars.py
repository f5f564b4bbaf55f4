"""XARs as modules."""

import os
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument
from layerfs.plan.xars import claims_of, read_xars
from layerfs.xar.search import Search
from tests.xar.packages import DIAMOND, fakes, real


def test_packages_come_with_what_they_depend_on(scratch: Path) -> None:
    place = fakes(scratch / "place", DIAMOND)
    modules, lowers = read_xars([os.fsencode(place / "a.xar")], Search([]))
    assert [os.path.basename(path) for path in lowers] == [
        b"%s.xar" % name for name in (b"a", b"b", b"d", b"c", b"e", b"f")
    ]
    assert {m.name: m.depends for m in modules} == {
        f"{name}.xar": tuple(f"{lower}.xar" for lower in lowers) for name, lowers in DIAMOND.items()
    }
    assert {(m.version, m.size, m.rebuilds) for m in modules} == {("1", (place / "a.xar").stat().st_size, False)}


def test_a_directory_is_no_xar(scratch: Path) -> None:
    with pytest.raises(InvalidArgument, match="is a directory, no XAR"):
        read_xars([os.fsencode(scratch)], Search([]))


def test_a_file_of_several_packages_is_the_topmost_ones(scratch: Path) -> None:
    one, two = real(scratch, "one", {"same": "1", "d/x": "1"}), real(scratch, "two", {"same": "2", "d/y": "2"})
    claims = claims_of([os.fsencode(one), os.fsencode(two)])
    assert claims.files[b"same"] == claims.files[b"d/x"] == "one.xar"
    assert claims.files[b"d/y"] == "two.xar"
