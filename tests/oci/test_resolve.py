"""Directories found by path: nothing leaves the root, however symlinks, depth and replacements are mixed."""

import os
from pathlib import Path

import pytest

from layerfs.errors import Corrupt
from tests.oci.tars import END, Entry, apply, brief, directory, file, link, look, pax, symlink


def outside(scratch: Path) -> tuple[Path, dict[str, Entry]]:
    place = scratch / "outside"
    place.mkdir()
    (place / "file").write_bytes(b"untouched")
    return place, look(place)


ESCAPES = {
    "a symlink and a file below it": [symlink(b"s", b"@"), file(b"s/file", b"evil")],
    "a relative symlink": [symlink(b"s", b"../outside"), file(b"s/file", b"evil")],
    "symlinks one after another": [symlink(b"a", b".."), symlink(b"b", b"a/.."), file(b"b/outside/file", b"evil")],
    "a directory swapped for a symlink": [directory(b"d"), file(b"d/x"), symlink(b"d", b"@"), file(b"d/file", b"evil")],
    "a deep directory swapped": [
        directory(b"a/b/c"),
        file(b"a/b/c/x"),
        symlink(b"a", b"@/.."),
        file(b"a/outside/file", b"evil"),
    ],
    "a hard link out": [link(b"l", b"@/file"), file(b"l", b"evil")],
    "a hard link through a symlink": [symlink(b"s", b"@"), link(b"l", b"s/file")],
    "a hard link to a symlink, then written": [symlink(b"s", b"@/file"), link(b"l", b"s"), file(b"l", b"evil")],
    "a file over a symlink": [symlink(b"s", b"@/file"), file(b"s", b"evil")],
    "an absolute name": [file(b"@/file", b"evil")],
    "dots": [file(b"../../../../../@/file", b"evil")],
    "a whiteout through a symlink": [symlink(b"s", b"@"), file(b"s/.wh.file")],
    "an opaque marker through a symlink": [symlink(b"s", b"@"), file(b"s/.wh..wh..opq")],
    "modes through a symlink": [symlink(b"s", b"@"), directory(b"s/.", mode=0o777), directory(b"s/x/..", mode=0o777)],
}


@pytest.mark.parametrize("title", ESCAPES)
def test_nothing_outside_changes(title: str, scratch: Path) -> None:
    place, before = outside(scratch)
    try:
        apply(b"".join(rebuilt(ESCAPES[title], place)) + END, scratch / "t")
    except (Corrupt, OSError):
        assert brief(scratch / "t") == {}
    assert look(place) == before


def rebuilt(entries: list[bytes], place: Path) -> list[bytes]:
    """Write entries again whose names hold `@`, as PAX records: their headers have sums and little room."""
    made = []
    for entry in entries:
        kind = entry[156:157]
        if b"@" in entry[:257]:
            names = [entry[a:b].rstrip(b"\0").replace(b"@", os.fsencode(place)) for a, b in ((0, 100), (157, 257))]
            data = b"evil" if kind == b"0" else b""
            entry = pax({b"path": names[0], b"linkpath": names[1]}) + file(b"x", data, kind=kind)
        made.append(entry)
    return made


def test_deep_directories_keep_few_open(scratch: Path) -> None:
    deep = b"/".join([b"d"] * 600)
    before = len(os.listdir("/proc/self/fd"))
    entries = [pax({b"path": deep + b"/" + name}) + file(name) for name in (b"f", b"g")]
    apply(b"".join(entries) + END, scratch / "t")
    assert len(os.listdir("/proc/self/fd")) == before
    assert sorted(os.listdir(scratch / "t" / os.fsdecode(deep))) == ["f", "g"]


def test_symlinks_of_the_layer_may_lead_through_each_other(scratch: Path) -> None:
    entries = [
        directory(b"usr/lib"), symlink(b"lib", b"usr/lib"), symlink(b"usr/lib64", b"../lib"),
        symlink(b"l", b"/usr/lib64/."),
        file(b"l/a", b"1"), file(b"lib/b", b"2"), file(b"usr/lib64/c/d", b"3"), file(b"l/c/e", b"4"),
    ]  # fmt: skip
    apply(b"".join(entries) + END, scratch / "t")
    found = {path: shown for path, shown in brief(scratch / "t/usr/lib").items() if shown != "d"}
    assert found == {"a": "f:1", "b": "f:2", "c/d": "f:3", "c/e": "f:4"}
