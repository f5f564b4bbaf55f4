"""Files that several packages provide."""

import os
from pathlib import Path

from layerfs.pysquashfs import WriteOptions, write_tree
from layerfs.xar.conflicts import ASKED, Limit, find_conflicts
from tests.host import require
from tests.xar.packages import real


def conflicts(*packages: Path) -> list[tuple[str, str, bool]]:
    """The path, the letters of who provides it, and whether they are equal."""
    search = find_conflicts([os.fsencode(package) for package in packages], ASKED)
    assert search.ended == ""
    return [(os.fsdecode(c.path), "".join("abc"[index] for index in c.providers), c.equal) for c in search.found]


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


def test_the_search_ends_at_its_limit_and_says_so(tmp_path: Path) -> None:
    require("mksquashfs")
    text = "0123456789abcdef" * (1 << 17)
    files = [os.fsencode(real(tmp_path, name, {"a/big": text, "a/x": name, "z": text})) for name in "ab"]
    few = find_conflicts(files, Limit(60, 5 << 20))
    assert (len(few.found) < 3, few.ended) == (True, "after 5 MiB of files")
    clock = iter(range(0, 1000, 3))
    assert find_conflicts(files, Limit(2, 1 << 30), lambda: next(clock)).ended == "after 2 s"


def test_a_hole_is_not_read_and_is_no_data(tmp_path: Path) -> None:
    """Two packages that shared a hole of 4 TB kept `mount` from returning."""
    packages = []
    for name, end in {"a": b"1", "b": b"1", "c": b"2"}.items():
        tree = tmp_path / f"tree-{name}"
        tree.mkdir()
        for file in ("same", "hole"):
            with open(tree / file, "wb") as sparse:
                sparse.truncate(1 << 36)
                if file == "same" or name == "c":
                    sparse.seek(1 << 35)
                    sparse.write(end)
        packages.append(tmp_path / f"{name}.sqfs")
        write_tree(tree, packages[-1], WriteOptions(block_size=1 << 20))
    assert conflicts(*packages[:2]) == [("hole", "ab", True), ("same", "ab", True)]
    assert conflicts(*packages[1:]) == [("hole", "ab", False), ("same", "ab", False)]
