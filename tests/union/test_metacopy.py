"""Files whose metadata were copied up without their data, by kernel overlayfs and by us."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerfs.union.attrs import Change
from layerfs.union.options import RedirectDir, UnionOptions
from layerfs.union.shown import has_holes
from tests.oracle.trees import Layer, file, hardlink
from tests.union.box import Box
from tests.union.kernel import overlay, tree_of

LOWER: Layer = {b"a": file(b"@9000"), b"d/b": file(b"bee"), b"d/e/c": file(b"sea")}


@pytest.fixture
def box(scratch: Path, require: Callable[..., None]) -> Iterator[Box]:
    """A union on an upper in which the kernel has changed modes, and renamed a file and a directory."""
    require("kernel overlay")
    box = Box(scratch, LOWER)
    box.union.close()
    with overlay(scratch, [box.layer(1)], box.upper, box.work, "metacopy=on,redirect_dir=on,index=off") as merged:
        for name in (b"a", b"d/b", b"d/e/c"):
            os.chmod(os.path.join(merged, name), 0o600)
        os.rename(os.path.join(merged, b"a"), os.path.join(merged, b"d/moved"))
        os.rename(os.path.join(merged, b"d"), os.path.join(merged, b"n"))
        box.expected = tree_of(merged)  # type: ignore[attr-defined]
    box.union = box._open()
    with box:
        yield box


def is_whole(box: Box) -> bool:
    """Whether no file of the upper is only metadata."""
    for above, _, names in os.walk(box.upper):
        if any("trusted.overlay.metacopy" in os.listxattr(os.path.join(above, name)) for name in names):
            return False
    return True


def test_data_are_found_in_the_lower(box: Box) -> None:
    assert box.tree() == box.expected  # type: ignore[attr-defined]


def test_write_completes_the_file(box: Box) -> None:
    box.write(b"n/b", b"B")
    assert box.read(b"n/b") == b"Bee"
    assert box.again().read(b"n/b") == b"Bee"


def test_file_half_completed_by_a_crash_is_still_read_from_the_lower(box: Box) -> None:
    """It has blocks, and was taken for whole."""
    with open(os.path.join(box.upper, b"n/b"), "r+b") as half:
        half.write(b"?")
    assert box.read(b"n/b") == b"bee"
    box.write(b"n/b", b"B")
    assert box.again().read(b"n/b") == b"Bee"


@pytest.mark.parametrize("options", [UnionOptions(), UnionOptions(redirect_dir=RedirectDir.OFF)])
def test_renamed_and_linked_files_keep_their_data(box: Box, options: UnionOptions) -> None:
    """Their data were looked for at the new name."""
    box.options = options
    box.again()
    box.rename(b"n/b", b"b")
    box.link(b"n/e/c", b"c")
    box.rename(b"n", b"other")
    expected = {b"b": b"bee", b"c": b"sea", b"other/e/c": b"sea", b"other/moved": b"start" + b"\0" * 8992 + b"end"}
    for _ in range(2):
        assert {path: box.read(path) for path in expected} == expected
        box.again()
    assert options == UnionOptions() or is_whole(box)


def test_metacopy_in_a_lower_layer_is_copied_up_with_its_data(box: Box, scratch: Path) -> None:
    """Its copy was all zeros."""
    box.close()
    stack = type(box.stack)((box.upper, *box.stack.lowers), os.fsencode(scratch / "u2"), os.fsencode(scratch / "w2"))
    (scratch / "u2").mkdir()
    (scratch / "w2").mkdir()
    box.stack = stack
    box.union = box._open()
    with pytest.raises(PermissionError):  # of lowers only when asked for, as in the kernel
        box.read(b"n/b")
    box.options = UnionOptions(metacopy=True)
    box.again()
    assert box.tree() == box.expected  # type: ignore[attr-defined]
    box.change(b"n/b", Change(mode=0o644))
    box.write(b"n/moved", b"S")
    assert box.again().read(b"n/b") == b"bee"
    assert box.read(b"n/moved")[:5] == b"Start"


NAMES: Layer = {
    b"a": file(b"@9000"), b"d/b": hardlink(b"a"), b"d/c": file(b"sea"), b"d/x": file(b"ex"), b"empty": file(),
}  # fmt: skip
START = b"start" + b"\0" * 8992 + b"end"


def is_hole(box: Box, name: bytes) -> bool:
    """Whether the upper has a file without its data."""
    with open(os.path.join(box.upper, name), "rb") as file:
        return not file.read().strip(b"\0")


def test_what_changes_no_data_copies_none_and_the_kernel_reads_it(scratch: Path, require: Callable[..., None]) -> None:
    """Renaming one name of a lower hard link copied its data."""
    require("kernel overlay")
    with Box(scratch, NAMES, options=UnionOptions(metacopy=True)) as box:
        box.rename(b"a", b"d/new")
        box.change(b"d/c", Change(mode=0o600))
        box.link(b"d/c", b"c2")
        box.rename(b"d/x", b"y")
        box.rename(b"y", b"d/z")
        box.change(b"empty", Change(mode=0o600))
        box.rename(b"d", b"e")
        data = {b"e/new": START, b"e/b": START, b"e/c": b"sea", b"c2": b"sea", b"e/z": b"ex", b"empty": b""}
        for _ in range(2):
            assert {name: box.read(name) for name in data} == data
            assert box.ino(b"e/new") == box.ino(b"e/b")
            assert not os.path.lexists(os.path.join(box.upper, b"e/b"))
            assert all(is_hole(box, name) for name in (b"e/new", b"e/c", b"c2", b"e/z"))
            assert not any(has_holes(box.stat(name)) for name in data)
            box.again()
        expected = box.tree()
        box.close()
        with overlay(scratch, [box.layer(1)], box.upper, box.work, "metacopy=on,redirect_dir=on,index=off") as merged:
            assert tree_of(merged) == expected
        box.union = box._open()


@pytest.mark.parametrize("how", ["write", "truncate", "open"])
def test_made_metacopy_gets_its_data_at_the_first_write(scratch: Path, how: str) -> None:
    with Box(scratch, NAMES, options=UnionOptions(metacopy=True)) as box:
        box.rename(b"a", b"new")
        if how == "write":
            box.write(b"d/b", b"S")
        elif how == "truncate":
            box.change(b"new", Change(size=2))
        else:
            with box.opened(b"new", os.O_RDWR):
                pass
        expected = {"write": b"Start" + START[5:], "truncate": b"st", "open": START}[how]
        for _ in range(2):
            assert {box.read(b"new"), box.read(b"d/b")} == {expected}
            box.again()
        assert is_whole(box)


def test_change_of_a_metacopy_that_is_open_and_removed_stays_out_of_the_layer(scratch: Path) -> None:
    """Its data were open in the lower, which got the mode."""
    with Box(scratch, NAMES, options=UnionOptions(metacopy=True)) as box:
        box.change(b"d/c", Change(mode=0o640))
        with box.opened(b"d/c") as node:
            box.unlink(b"d/c")
            box.union.set_attributes(node.ino, Change(mode=0o600))
            assert box.union.attributes(node.ino).st_mode & 0o777 == 0o600
            assert os.pread(box.data_fd(node.ino), 10, 0) == b"sea"
        assert os.lstat(os.path.join(box.layer(1), b"d/c")).st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "options",
    [
        UnionOptions(metacopy=True, redirect_dir=RedirectDir.OFF),
        UnionOptions(metacopy=True, userxattr=True),
        UnionOptions(),
    ],
    ids=["no redirects", "userxattr", "not asked for"],
)
def test_copies_are_whole_where_the_kernel_would_not_look_below(scratch: Path, options: UnionOptions) -> None:
    with Box(scratch, NAMES, options=options) as box:
        box.rename(b"a", b"new")
        box.change(b"d/c", Change(mode=0o600))
        assert is_whole(box) and not is_hole(box, b"new") and not is_hole(box, b"d/c")


def test_a_path_too_long_for_a_redirect_is_copied(scratch: Path) -> None:
    long = b"/".join([b"n" * 100] * 3)
    with Box(scratch, {long: file(b"data")}, options=UnionOptions(metacopy=True)) as box:
        box.rename(long, b"short")
        assert is_whole(box) and box.read(b"short") == b"data"
