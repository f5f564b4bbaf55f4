"""The merged listing: every mark, files over directories over files, three hundred layers."""

import os
from pathlib import Path

import pytest

from tests.oracle.trees import WHITEOUT, Layer, Marks, directory, file
from tests.union.box import Box, Tree

Case = tuple[list[Layer], Tree]
DIR = "dir"
CASES: dict[str, Case] = {
    "directories unite": ([{b"d/a": file(b"1")}, {b"d/b": file(b"2")}], {b"d": DIR, b"d/a": b"1", b"d/b": b"2"}),
    "the highest file wins": ([{b"f": file(b"1")}, {b"f": file(b"2")}, {b"f": file(b"3")}], {b"f": b"1"}),
    "a whiteout hides all below": ([{b"f": WHITEOUT}, {b"f": file()}, {b"f": file()}], {}),
    "a whiteout hides nothing above": ([{b"f": file(b"1")}, {b"f": WHITEOUT}, {b"f": file(b"3")}], {b"f": b"1"}),
    "a file stops directories": ([{b"x": file(b"1")}, {b"x/a": file()}], {b"x": b"1"}),
    "a directory over a file over a directory": (
        [{b"x/a": file(b"a")}, {b"x": file()}, {b"x/b": file()}], {b"x": DIR, b"x/a": b"a"},
    ),
    "a directory over a whiteout over a directory": (
        [{b"x/a": file(b"a")}, {b"x": WHITEOUT}, {b"x/b": file()}], {b"x": DIR, b"x/a": b"a"},
    ),
    "opaque": (
        [{b"x/a": file(b"a")}, {b"x": directory(opaque=True), b"x/b": file(b"b")}, {b"x/c": file()}],
        {b"x": DIR, b"x/a": b"a", b"x/b": b"b"},
    ),
    "opaque and whiteouts below each other": (
        [{b"x/y": WHITEOUT}, {b"x": directory(opaque=True), b"x/y/z": file(), b"x/k": file(b"k")}, {b"x/n": file()}],
        {b"x": DIR, b"x/k": b"k"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("upper", [False, True], ids=["lowers", "upper"])
@pytest.mark.parametrize("marks", list(Marks), ids=lambda marks: marks.value)
@pytest.mark.parametrize("case", CASES)
def test_marks_of_every_form(scratch: Path, case: str, marks: Marks, upper: bool) -> None:
    layers, expected = CASES[case]
    lowers, top = (layers[1:], layers[0]) if upper else (layers, {})
    with Box(scratch, *lowers, upper=top, marks=marks) as box:
        assert box.tree() == expected
        assert box.tree() == expected
        assert box.is_clean()


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([{b"d/.wh..wh..opq": file(), b"d/a": file(b"1")}, {b"d/b": file()}], {b"d": DIR, b"d/a": b"1"}),
        ([{b"d/.wh..opq": file(), b"d/a": file(b"1")}, {b"d/b": file()}], {b"d": DIR, b"d/a": b"1"}),
        ([{b".wh..wh..opq": file(), b"a": file(b"1")}, {b"b": file()}], {b"a": b"1"}),
        ([{b".wh..wh.plnk": file(), b".wh..wh.orph/x": file()}, {b"a": file(b"1")}], {b"a": b"1"}),
        ([{b".wh.a": file(), b"a": file(b"1")}, {b"a": file(b"2")}], {b"a": b"1"}),
        ([{b".wh.d": file(), b"d/x": file(b"1")}, {b"d/y": file(b"2")}], {b"d": DIR, b"d/x": b"1"}),
        ([{b"d": directory(xattrs=(("user.overlay.opaque", b"y"),))}, {b"d/x": file()}], {b"d": DIR}),
    ],
)
@pytest.mark.parametrize("upper", [False, True], ids=["lowers", "upper"])
def test_marks_as_names_never_show(scratch: Path, layers: list[Layer], expected: Tree, upper: bool) -> None:
    lowers, top = (layers[1:], layers[0]) if upper else (layers, {})
    with Box(scratch, *lowers, upper=top) as box:
        assert box.tree() == expected


def test_empty_file_with_the_whiteout_xattr_counts_only_in_a_marked_directory(scratch: Path) -> None:
    white = file(b"", xattrs=(("trusted.overlay.whiteout", b"y"),))
    marked = directory(xattrs=(("trusted.overlay.opaque", b"x"),))
    layers: list[Layer] = [{b"m": marked, b"m/f": white, b"p/f": white}, {b"m/f": file(b"1"), b"p/f": file(b"2")}]
    with Box(scratch, *layers) as box:
        assert box.tree() == {b"m": DIR, b"p": DIR, b"p/f": b""}


def test_three_hundred_layers(scratch: Path) -> None:
    digits = [b"%d" % index for index in range(300)]
    layers: list[Layer] = [{b"all/" + number: file(number), b"same": file(number)} for number in digits]
    layers[150] = {b"all/200": WHITEOUT, b"all/150": file(b"150")}
    with Box(scratch, *layers, limit=64) as box:
        expected = {b"all/%d" % index: b"%d" % index for index in range(300) if index != 200}
        assert box.tree() == expected | {b"all": DIR, b"same": b"0"}
        box.rename(b"all", b"moved")
        box.unlink(b"moved/299")
        assert len(box.again().names(b"moved")) == 298
        assert box.is_clean()


def test_names_of_any_bytes(scratch: Path) -> None:
    names = [b"\xff\xfe", b"new\nline", b"*", b" ", b"\x01", "ümlaut".encode(), b"n" * 255]
    with Box(scratch, {name: file(name[:9]) for name in names}) as box:
        for name in names:
            box.write(name, b"!")
        assert box.again().tree() == {name: b"!" + name[1:9] for name in names}


def test_directory_that_fails_to_open_costs_no_descriptor(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were opened beside it were lost: a leak for each attempt."""
    from layerfs.sys import dirs

    with Box(scratch, *({b"d/%d" % index: file()} for index in range(5))) as box, monkeypatch.context() as patch:
        real = dirs.open_directory

        def fail_in_third(at: int, name: bytes) -> int:
            if os.readlink(f"/proc/self/fd/{at}").endswith("/l3"):
                raise OSError(5, os.strerror(5))
            return real(at, name)

        patch.setattr(dirs, "open_directory", fail_in_third)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            with pytest.raises(OSError, match="Input"):
                box.names(b"d")
        assert len(os.listdir("/proc/self/fd")) == before
        assert box.is_clean()


def test_forget_frees_everything(scratch: Path) -> None:
    layers: list[Layer] = [{b"d%d/f%d" % (index % 7, index): file(b"x") for index in range(200)}, {b"d1/e/g": file()}]
    with Box(scratch, *layers) as box:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(2):
            box.tree()
        box.rename(b"d1", b"e1")
        box.write(b"d2/f2", b"y")
        box.unlink(b"d3/f3")
        box.link(b"d4/f4", b"d5/link")
        with box.opened(b"d2/f9"):
            box.unlink(b"d2/f9")
        assert box.is_clean()
        assert len(os.listdir("/proc/self/fd")) == before
        assert box.union.root().children == 0
