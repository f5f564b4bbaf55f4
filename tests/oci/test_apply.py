"""What odd layers mean, in both forms of target: beside each stands what three known programs make of it."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path

import pytest

from layerfs.errors import Corrupt, LayerfsError
from tests.host import require
from tests.oci.tars import END, NOW, Entry, directory, file, header, link, look, packed, pax, piled, stacked, symlink

pytestmark = pytest.mark.usefixtures("each_way")

BASE = b"".join(
    [
        directory(b"d/"), file(b"d/a", b"old a"), file(b"d/b", b"old b"), directory(b"d/s/"), file(b"d/s/x", b"x"),
        file(b"keep", b"k"), directory(b"real/"), file(b"real/r", b"r"),
        symlink(b"lnk", b"real"), symlink(b"abs", b"/real"), file(b"h1", b"linked"), link(b"h2", b"h1"),
        directory(b"m/", mode=0o711, uid=7, gid=8), file(b"m/f", b"f"), END,
    ]
)  # fmt: skip
UNCHANGED = {
    "d": "d", "d/a": "f:old a", "d/b": "f:old b", "d/s": "d", "d/s/x": "f:x", "keep": "f:k", "real": "d",
    "real/r": "f:r", "lnk": "l:real", "abs": "l:/real", "h1": "f:linked", "h2": "f:linked", "m": "d", "m/f": "f:f",
}  # fmt: skip

Merged = Callable[[bytes], dict[str, Entry]]


@contextmanager
def overlay(layers: list[Path], place: Path) -> Iterator[Path]:
    """Show layers (top first) as the kernel's overlayfs does."""
    point = place / "merged"
    point.mkdir()
    (place / "empty").mkdir()
    lowers = ":".join(map(str, [*layers, place / "empty"]))
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lowers}", str(point)], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", str(point)], check=True)


@pytest.fixture(params=["overlay", "plain", "squash"])
def merged(request: pytest.FixtureRequest, scratch: Path) -> Merged:
    """Apply the base layer and the odd one, and look at the result."""
    require("root", "kernel overlay")

    def by_overlay(layer: bytes) -> dict[str, Entry]:
        with overlay(stacked([BASE, layer], scratch), scratch) as point:
            return look(point)

    def by_tree(layer: bytes) -> dict[str, Entry]:
        return look(piled([BASE, layer], scratch / "tree"))

    def by_image(layer: bytes) -> dict[str, Entry]:
        with overlay(packed([BASE, layer], scratch), scratch) as point:
            return look(point)

    return {"overlay": by_overlay, "plain": by_tree, "squash": by_image}[request.param]


def briefly(found: dict[str, Entry]) -> dict[str, str]:
    return {path: entry.brief for path, entry in found.items() if path != "."}


def without(*gone: str) -> dict[str, str]:
    return {
        path: shown for path, shown in UNCHANGED.items() if not any(path == g or path.startswith(g + "/") for g in gone)
    }


NEW_A, GONE_A = file(b"d/a", b"new a"), file(b"d/.wh.a")
MARK, NEW = file(b"d/.wh..wh..opq"), file(b"d/new", b"n")
RESULTS = {
    "a new file and its whiteout": ([NEW_A, GONE_A], UNCHANGED | {"d/a": "f:new a"}),
    "a whiteout below nothing": ([file(b"no/such/.wh.f")], UNCHANGED),
    "a whiteout below a file": ([file(b"keep/.wh.f")], UNCHANGED),
    "a whiteout below a symlink": ([file(b"lnk/.wh.r")], UNCHANGED),
    "whiteouts beside that of the parent": (
        [file(b".wh.d"), file(b"d/.wh.a"), file(b"d/.wh.s"), file(b"d/s/.wh.x")], without("d")),
    "a parent that is a lower symlink": ([file(b"lnk/n", b"n")], UNCHANGED | {"lnk": "d", "lnk/n": "f:n"}),
    "a lower symlink listed as a directory": (
        [directory(b"lnk/"), file(b"lnk/n", b"n")], UNCHANGED | {"lnk": "d", "lnk/n": "f:n"}),
    "a name twice": ([file(b"keep", b"1"), file(b"keep", b"2")], UNCHANGED | {"keep": "f:2"}),
    "an opaque marker": ([MARK, NEW], without("d/a", "d/b", "d/s") | {"d/new": "f:n"}),
    "an opaque marker and a deep file": (
        [file(b"d/s/t/u", b"u"), MARK], without("d/a", "d/b", "d/s") | {"d/s": "d", "d/s/t": "d", "d/s/t/u": "f:u"}),
    "an opaque marker with a directory": (
        [MARK, directory(b"d/"), NEW], without("d/a", "d/b", "d/s") | {"d/new": "f:n"}),
    "marks below an opaque marker": (
        [MARK, file(b"d/s/.wh.x"), file(b"d/s/.wh..wh..opq"), NEW], without("d/a", "d/b", "d/s") | {"d/new": "f:n"}),
    "a directory listed below an opaque marker": (
        [MARK, directory(b"d/s/"), file(b"d/s/.wh.x"), NEW],
        without("d/a", "d/b", "d/s") | {"d/new": "f:n", "d/s": "d"}),
    "an opaque root": ([file(b".wh..wh..opq"), NEW], {"d": "d", "d/new": "f:n"}),
    "a directory deleted and made anew": (
        [file(b".wh.d"), directory(b"d/"), NEW], {**without("d"), "d": "d", "d/new": "f:n"}),
    "a directory deleted, with a new file in it": ([file(b".wh.d"), NEW], {**without("d"), "d": "d", "d/new": "f:n"}),
    "a whiteout that is a directory": ([directory(b".wh.d/")], without("d")),
    "a whiteout with junk in its link name": ([file(b".wh.d", link=b"junk", mode=0)], without("d")),
    "a file over a directory": ([file(b"d", b"file")], without("d") | {"d": "f:file"}),
    "a directory over a file": (
        [directory(b"keep/"), file(b"keep/n", b"n")], UNCHANGED | {"keep": "d", "keep/n": "f:n"}),
    "a file below a lower file": ([file(b"keep/n", b"n")], UNCHANGED | {"keep": "d", "keep/n": "f:n"}),
    "a symlink over a full directory": ([symlink(b"d", b"real")], without("d") | {"d": "l:real"}),
    "names that lead outside": (
        [file(b"./x1", b"1"), file(b"/x2", b"2"), file(b"../esc", b"3"),
         file(b"d/../inside", b"4"), file(b"../../a/../b", b"5")],
        UNCHANGED | {"x1": "f:1", "x2": "f:2", "esc": "f:3", "inside": "f:4", "b": "f:5"}),
    "a hard link to a lower file": ([link(b"h3", b"h1")], UNCHANGED | {"h3": "f:linked"}),
    "a hard link to a lower file, absolute": (
        [link(b"new/h3", b"/d/a")], UNCHANGED | {"new": "d", "new/h3": "f:old a"}),
    "a hard link to a lower file that is deleted": (
        [file(b".wh.d"), link(b"h3", b"d/a")], without("d") | {"h3": "f:old a"}),
    "a hard link through lower symlinks": (
        [link(b"h3", b"lnk/r"), link(b"h4", b"abs/r")], UNCHANGED | {"h3": "f:r", "h4": "f:r"}),
    "a hard link before its target": ([link(b"l", b"t"), file(b"t", b"t")], UNCHANGED | {"l": "f:t", "t": "f:t"}),
    "a hard link to itself": ([link(b"keep", b"keep")], UNCHANGED),
    "a chain of hard links": (
        [link(b"l1", b"l2"), link(b"l2", b"l3"), file(b"l3", b"e")],
        UNCHANGED | dict.fromkeys(("l1", "l2", "l3"), "f:e")),
    "a hard link of a symlink": (
        [link(b"l1", b"s"), symlink(b"s", b"nowhere")], UNCHANGED | {"l1": "l:nowhere", "s": "l:nowhere"}),
    "a hard link to an older version": (
        [file(b"v", b"1"), link(b"l", b"v"), file(b"v", b"2")], UNCHANGED | {"v": "f:2", "l": "f:2"}),
    "a file where a hard link was": ([link(b"l", b"keep"), file(b"l", b"own")], UNCHANGED | {"l": "f:own"}),
    "the layer's own symlink as a parent": (
        [directory(b"run/"), symlink(b"var", b"/run"), file(b"var/pid", b"1")],
        UNCHANGED | {"run": "d", "var": "l:/run", "run/pid": "f:1"}),
    "the layer's own symlink out of the root": (
        [symlink(b"out", b"../../../tmp"), file(b"out/f", b"1")],
        UNCHANGED | {"out": "l:../../../tmp", "tmp": "d", "tmp/f": "f:1"}),
    "no end blocks": ([NEW], UNCHANGED | {"d/new": "f:n"}),
    "type 7": ([file(b"seven", b"7", kind=b"7")], UNCHANGED | {"seven": "f:7"}),
    "a v7 directory": ([header(b"v7/", b"\0", magic=bytes(8))], UNCHANGED | {"v7": "d"}),
    "a global header": (
        [pax({b"comment": b"c"}, b"g"), NEW, pax({b"comment": b"end"}, b"g")], UNCHANGED | {"d/new": "f:n"}),
    "aufs's own names": (
        [directory(b".wh..wh.plnk/"), file(b".wh..wh.plnk/1.2", b"aufs"), link(b"al", b".wh..wh.plnk/1.2"),
         file(b".wh..wh.aufs"), directory(b".wh..wh.orph/")], UNCHANGED | {"al": "f:aufs"}),
    "nothing": ([], UNCHANGED),
}  # fmt: skip


@pytest.mark.parametrize("title", RESULTS)
def test_odd_layer_means(title: str, merged: Merged) -> None:
    entries, wanted = RESULTS[title]
    end = b"" if title == "no end blocks" else END + b"garbage"
    assert briefly(merged(b"".join(entries) + end)) == wanted


ANY_ORDER = {
    "new files, whiteouts and an opaque marker": (
        [NEW_A, GONE_A, NEW, MARK], without("d/a", "d/b", "d/s") | {"d/a": "f:new a", "d/new": "f:n"}),
    "a new directory in place of a deleted one": (
        [file(b".wh.d"), directory(b"d/"), file(b"d/s/y", b"y")],
        {**without("d"), "d": "d", "d/s": "d", "d/s/y": "f:y"}),
    "whiteouts beside that of the parent": ([file(b".wh.d"), file(b"d/.wh.a"), file(b"d/s/.wh.x"), MARK], without("d")),
    "a file where a directory has marks": (
        [file(b"d", b"file"), file(b"d/.wh.a"), MARK, file(b".wh.d")], without("d") | {"d": "f:file"}),
    "a hard link where a file is deleted": (
        [file(b".wh.keep"), link(b"keep", b"h1"), file(b".wh.h1")], without("h1") | {"keep": "f:linked"}),
    "hard links and their targets": (
        [link(b"x", b"y"), file(b"y", b"!"), link(b"z", b"x"), link(b"h3", b"h1")],
        UNCHANGED | {"x": "f:!", "y": "f:!", "z": "f:!", "h3": "f:linked"}),
    "parents after what is in them": (
        [directory(b"p/", mode=0o700), file(b"p/q/f", b"f"), directory(b"p/q/", mode=0o750)],
        UNCHANGED | {"p": "d", "p/q": "d", "p/q/f": "f:f"}),
}  # fmt: skip


@pytest.mark.parametrize("title", ANY_ORDER)
def test_order_of_entries_means_nothing(title: str, scratch: Path) -> None:
    require("root", "kernel overlay")
    entries, wanted = ANY_ORDER[title]
    results = []
    for number, order in enumerate(permutations(entries)):
        place = scratch / str(number)
        place.mkdir()
        with overlay(stacked([BASE, b"".join(order) + END], place), place) as point:
            results.append(look(point))
        results.append(look(piled([BASE, b"".join(order) + END], place / "tree")))
    assert [briefly(result) for result in results] == [wanted] * len(results)
    facts = [{path: (e.mode, e.owner, e.mtime_ns) for path, e in result.items() if path != "."} for result in results]
    assert all(fact == facts[0] for fact in facts[::2])
    assert all(fact == facts[1] for fact in facts[1::2])


REFUSED = {
    "root is a symlink": [symlink(b".", b"/x")],
    "root is a file": [file(b"./", b"")],
    "root is a hard link": [link(b"/", b"keep")],
    "whiteout of .": [file(b".wh..")],
    "whiteout of ..": [file(b"d/.wh...")],
    "whiteout of nothing": [file(b".wh.")],
    "file below a whiteout": [file(b".wh.d/x")],
    "file below the layer's file": [file(b"n", b""), file(b"n/m", b"")],
    "the layer's file above a file": [file(b"n/m", b""), file(b"n", b"")],
    "symlink above a file": [file(b"n/m", b""), symlink(b"n", b"d")],
    "hard link to nothing": [link(b"n", b"no/such")],
    "symlink above a file in a lower directory": [file(b"d/s/n", b""), symlink(b"d", b"keep")],
    "file above a file in a lower directory": [file(b"d/s/n", b""), file(b"d/s", b"")],
    "hard link above a file": [file(b"n/m", b""), link(b"n", b"keep")],
    "hard link above a file in a lower directory": [file(b"d/m", b""), link(b"d", b"keep")],
    "hard link in place of its target's directory": [directory(b"n"), file(b"n/m", b""), link(b"n", b"n/m")],
    "hard link in place of a lower directory of its target": [link(b"d", b"d/a")],
    "hard links in a circle": [link(b"n", b"o"), link(b"o", b"n")],
    "hard link to a directory": [directory(b"n"), link(b"o", b"n")],
    "hard link to a lower directory": [link(b"o", b"d")],
    "hard link to the root": [link(b"o", b"/")],
    "symlinks in a circle": [symlink(b"n", b"o"), symlink(b"o", b"n"), file(b"n/x", b"")],
    "symlink to nothing": [symlink(b"n", b"")],
    "unknown type": [file(b"n", b"", kind=b"Z")],
    "device that cannot be": [header(b"n", b"3", major=1 << 13, minor=0)],
    "owner that cannot be": [file(b"n", b"", uid=0xFFFFFFFF)],
    "owner below zero": [file(b"n", b"", uid=-1)],
    "name of 256 bytes": [pax({b"path": b"n" * 256}) + file(b"n", b"")],
}


@pytest.mark.parametrize("title", REFUSED)
def test_layer_is_refused(title: str, merged: Merged) -> None:
    with pytest.raises((LayerfsError, OSError)):
        merged(b"".join([*REFUSED[title], END]))


def test_refused_layer_leaves_an_empty_upper(scratch: Path) -> None:
    with pytest.raises(Corrupt):
        stacked([BASE, file(b"n", b"n") + link(b"x", b"nothing") + END], scratch)
    assert list((scratch / "layer1").iterdir()) == []


def test_parent_without_an_entry_keeps_what_it_was(merged: Merged) -> None:
    found = merged(file(b"m/g", b"g") + file(b"fresh/er/f", b"") + END)
    assert (found["m"].mode, found["m"].owner) == (0o711, (7, 8))
    assert [(found[path].mode, found[path].owner) for path in ("fresh", "fresh/er")] == [(0o755, (0, 0))] * 2
    assert found["fresh"].mtime_ns == 0


def test_parent_of_an_opaque_marker_keeps_what_it_was(merged: Merged) -> None:
    found = merged(file(b"m/.wh..wh..opq") + file(b"m/g", b"g") + END)
    assert (found["m"].mode, found["m"].owner, "m/f" in found) == (0o711, (7, 8), False)


def test_parent_that_was_deleted_does_not_come_back(merged: Merged) -> None:
    found = merged(file(b"m/g", b"g") + file(b".wh.m") + END)
    assert (found["m"].mode, found["m"].owner, "m/f" in found) == (0o755, (0, 0), False)


@pytest.mark.parametrize("name", [b"./", b"/", b".", b"d/.."])
def test_root_entry_is_the_root(name: bytes, merged: Merged) -> None:
    found = merged(directory(name, mode=0o711, uid=3, gid=4) + END)["."]
    assert (found.mode, found.owner, found.mtime_ns) == (0o711, (3, 4), NOW * 10**9)


def test_names_of_lower_hard_links_are_one_file(merged: Merged) -> None:
    found = merged(link(b"h3", b"keep") + link(b"h4", b"h3") + END)
    assert [found[name].names for name in ("keep", "h3", "h4")] == [3, 3, 3]


def test_layer_that_deletes_and_one_that_makes_anew(scratch: Path) -> None:
    """Old files came back with the third layer."""
    require("root", "kernel overlay")
    layers = [BASE, file(b".wh.d") + END, directory(b"d/") + NEW + END]
    wanted = {**without("d"), "d": "d", "d/new": "f:n"}
    with overlay(stacked(layers, scratch), scratch) as point:
        assert briefly(look(point)) == wanted
    assert briefly(look(piled(layers, scratch / "tree"))) == wanted


def test_link_then_change_of_one_name(scratch: Path) -> None:
    """Layers read top-down gave the other name the wrong content."""
    require("root", "kernel overlay")
    layers = [BASE, link(b"l", b"keep") + END, file(b"keep", b"changed") + END]
    with overlay(stacked(layers, scratch), scratch) as point:
        found = briefly(look(point))
    assert (found["l"], found["keep"]) == ("f:k", "f:changed")
    assert briefly(look(piled(layers, scratch / "tree"))) == found
