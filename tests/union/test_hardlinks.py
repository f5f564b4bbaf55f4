"""Lower hard links: all names stay one file, in this mount and the next."""

import os
from pathlib import Path

import pytest

from layerfs.sys.dirs import RENAME_EXCHANGE
from layerfs.union.attrs import Change
from tests.oracle.trees import Layer, file, hardlink, symlink
from tests.union.box import Box

LOWER: Layer = {
    b"a": file(b"data"), b"d/b": hardlink(b"a"), b"e/f/c": hardlink(b"a"), b"d/x": file(b"x"), b"e/y": hardlink(b"d/x"),
    b"s": hardlink(b"d/s2"), b"d/s2": symlink(b"t"),
}  # fmt: skip


@pytest.mark.parametrize("name", [b"a", b"d/b", b"e/f/c"])
def test_write_through_one_name_is_seen_through_all(scratch: Path, name: bytes) -> None:
    with Box(scratch, LOWER) as box:
        box.write(name, b"D")
        for _ in range(2):
            assert {box.read(path) for path in (b"a", b"d/b", b"e/f/c")} == {b"Data"}
            assert {box.stat(path).st_nlink for path in (b"a", b"d/b", b"e/f/c")} == {3}
            assert len({box.ino(path) for path in (b"a", b"d/b", b"e/f/c")}) == 1
            assert box.is_clean()
            box.again()


def test_unlink_of_one_name_counts_the_others_down(scratch: Path) -> None:
    with Box(scratch, LOWER) as box:
        box.unlink(b"d/b")
        assert [box.stat(path).st_nlink for path in (b"a", b"e/f/c")] == [2, 2]
        box.unlink(b"a")
        assert box.again().stat(b"e/f/c").st_nlink == 1
        assert box.read(b"e/f/c") == b"data"


def test_names_in_directories_that_changed_places_are_found(scratch: Path) -> None:
    """They were noted at the path they had before: the second half of the exchange moved the first one's back."""
    with Box(scratch, LOWER) as box:
        box.write(b"a", b"D")  # notes all names of all hard links
        box.rename(b"d", b"e", RENAME_EXCHANGE)
        box.write(b"d/y", b"X")
        assert (box.read(b"e/x"), box.read(b"d/y")) == (b"X", b"X")
        assert (box.again().read(b"e/x"), box.read(b"d/y")) == (b"X", b"X")


def test_names_move_with_renamed_directories(scratch: Path) -> None:
    with Box(scratch, LOWER) as box:
        box.write(b"a", b"D")
        box.rename(b"d", b"e/f/d")
        box.rename(b"e", b"new")
        box.write(b"new/y", b"X")
        assert box.again().read(b"new/f/d/x") == b"X"
        assert box.stat(b"new/y").st_nlink == 2


def test_symlinks_that_are_hard_links_stay_together(scratch: Path) -> None:
    """The second name of a copied-up symlink could not be renamed: it was looked for in the upper."""
    with Box(scratch, LOWER) as box:
        box.change(b"s", Change(mtime_ns=5))
        box.rename(b"d/s2", b"moved")
        assert box.again().stat(b"moved").st_mtime_ns == 5
        assert box.ino(b"moved") == box.ino(b"s")


def test_unreadable_directory_elsewhere_hinders_nobody(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for the other names failed with EACCES, and so did the copy-up."""
    from layerfs.union.layers import DirTree

    with Box(scratch, LOWER) as box:
        real = DirTree.scan

        def scan(tree: DirTree, handle: int, *, xattr_whiteouts: bool) -> object:
            if os.readlink(f"/proc/self/fd/{handle}").endswith("/e"):
                raise PermissionError(13, "no")
            return real(tree, handle, xattr_whiteouts=xattr_whiteouts)

        monkeypatch.setattr(DirTree, "scan", scan)
        box.write(b"a", b"D")
        assert box.read(b"d/b") == b"Data"
        assert box.is_clean()


def test_copy_up_that_stopped_between_two_names_is_taken_up_by_rename(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Box(scratch, LOWER) as box:
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", _no_space)
            with pytest.raises(OSError, match="No space"):
                box.write(b"a", b"D")
        with box.node(b"a"), box.node(b"d/b"):
            box.rename(b"d/b", b"new")
        assert box.again().read(b"new") == b"data"
        assert box.ino(b"new") == box.ino(b"a")


def _no_space(*_: object, **__: object) -> None:
    raise OSError(28, os.strerror(28))
