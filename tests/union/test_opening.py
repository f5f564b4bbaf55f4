"""What is opened with a stack, and that nothing stays open when it cannot be opened."""

import os
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument, Unsupported
from layerfs.model import Stack
from layerfs.union.layers import DirTree
from layerfs.union.options import OverrideStat, UnionOptions
from layerfs.union.union import Union
from tests.oracle.trees import file
from tests.union.box import Box


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_trees_are_top_first_and_the_upper_is_the_first(scratch: Path) -> None:
    with Box(scratch, {b"a": file()}, {b"b": file()}) as box:
        assert [tree.index for tree in box.union.trees] == [0, 1, 2]
        assert [tree.path for tree in box.union.trees] == [box.upper, box.layer(1), box.layer(2)]


@pytest.mark.parametrize("broken", ["lower", "work"])
def test_a_stack_that_cannot_be_opened_leaves_nothing_open(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    with Box(scratch, {b"a": file()}, {b"b": file()}) as box:
        stack = box.stack
    before = descriptors()

    def open_tree(path: bytes, index: int) -> DirTree:
        if broken == "lower" and index == 2:
            raise FileNotFoundError(2, "gone", path)
        return DirTree(path, index)

    if broken == "work":
        (scratch / "work/work").rmdir()
        (scratch / "work/work").write_text("")
    with pytest.raises(InvalidArgument):
        Union.open(stack, UnionOptions(), open_tree=open_tree)
    assert descriptors() == before


def test_an_override_that_the_upper_cannot_carry_is_refused(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(95, "not supported")

    stack = Stack((os.fsencode(scratch / "l"),), os.fsencode(scratch / "u"), os.fsencode(scratch / "w"))
    for name in "luw":
        (scratch / name).mkdir()
    monkeypatch.setattr(os, "setxattr", refuse)
    with pytest.raises(Unsupported, match="cannot carry"):
        Union.open(stack, UnionOptions(override_stat=OverrideStat.CONTAINERS))


def test_an_upper_that_can_hold_no_whiteout_is_refused(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On an overlay without xattrs each removal would fail, one after the other."""
    real = os.open

    def refuse(path: bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if isinstance(path, bytes) and path.startswith(b".wh."):
            raise PermissionError(1, "not permitted")
        return real(path, flags, mode, dir_fd=dir_fd)

    def no_device(*_: object, **__: object) -> None:
        raise PermissionError(1, "not permitted")

    with Box(scratch, {b"a": file()}) as box:
        stack = box.stack
    before = descriptors()
    monkeypatch.setattr(os, "mknod", no_device)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Unsupported, match="can hold no whiteouts"):
        Union.open(stack, UnionOptions())
    assert descriptors() == before
