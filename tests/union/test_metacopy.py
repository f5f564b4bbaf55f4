"""Files whose metadata kernel overlayfs copied up without their data."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerfs.union.attrs import Change
from layerfs.union.options import RedirectDir, UnionOptions
from tests.oracle.trees import Layer, file
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
