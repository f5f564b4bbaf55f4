"""Files that several packages provide."""

import os
from pathlib import Path

from layerfs.xar.conflicts import find_conflicts
from tests.host import require
from tests.xar.packages import real


def conflicts(*packages: Path) -> list[tuple[str, str, bool]]:
    """The path, the letters of who provides it, and whether they are equal."""
    found = find_conflicts([os.fsencode(package) for package in packages])
    return [(os.fsdecode(c.path), "".join("abc"[index] for index in c.providers), c.equal) for c in found]


def test_conflicts_are_told_different_ones_first(tmp_path: Path) -> None:
    require("mksquashfs")
    one = real(tmp_path, "a", {"lib/a": "a", "same": "s", "x": "1", "deep/er/file": "1", "size": "1"})
    two = real(tmp_path, "b", {"lib/b": "b", "same": "s", "x": "2", "deep/er/file": "1", "size": "22"})
    three = real(tmp_path, "c", {"lib/c": "c", "x": "1", "deep/er/other": "1"})
    assert conflicts(one, two, three) == [
        ("size", "ab", False),
        ("x", "abc", False),
        ("deep/er/file", "ab", True),
        ("same", "ab", True),
    ]


def test_file_over_a_directory_is_one_and_whiteouts_are_none(tmp_path: Path) -> None:
    require("mksquashfs")
    one = real(tmp_path, "a", {"name": "file", ".wh.gone": "", "kept": "k"})
    two = real(tmp_path, "b", {"name/inner": "file", ".wh.gone": "other", "gone": "g"})
    assert conflicts(one, two) == [("name", "ab", False)]


def test_large_files_are_compared_to_the_end(tmp_path: Path) -> None:
    require("mksquashfs")
    text = "0123456789abcdef" * (1 << 17)
    one = real(tmp_path, "a", {"big": text + "x", "same": text})
    two = real(tmp_path, "b", {"big": text + "y", "same": text})
    assert conflicts(one, two) == [("big", "ab", False), ("same", "ab", True)]


def test_single_package_and_none_have_no_conflicts(tmp_path: Path) -> None:
    require("mksquashfs")
    assert conflicts() == []
    assert conflicts(real(tmp_path, "a", {"x": "1"})) == []
