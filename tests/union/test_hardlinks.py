"""Lower hard links: all names stay one file, in this mount and the next."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest

from layerfs.union.attrs import Change
from layerfs.union.layers import DirTree
from tests.oracle.trees import Layer, file, hardlink, symlink
from tests.union.box import Box
from tests.union.kernel import overlay

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


def test_counts_are_those_of_the_next_mount_too(scratch: Path) -> None:
    """What was only removed is counted in the index, without a copy."""
    with Box(scratch, LOWER) as box:
        box.unlink(b"d/b")
        assert box.again().stat(b"a").st_nlink == 2
        box.write(b"a", b"D")
        assert [box.stat(path).st_nlink for path in (b"a", b"e/f/c")] == [2, 2]
        assert [box.again().stat(path).st_nlink for path in (b"a", b"e/f/c")] == [2, 2]
        box.unlink(b"a")
        assert (box.stat(b"e/f/c").st_nlink, box.read(b"e/f/c")) == (1, b"Data")
        assert (box.again().stat(b"e/f/c").st_nlink, box.read(b"e/f/c")) == (1, b"Data")
        box.unlink(b"e/f/c")
        assert entries(box) == []


def entries(box: Box) -> list[str]:
    """What the index holds, the file aside that all counts are links of."""
    place = box.place / "work" / "layerfs-links"
    return sorted(name for name in os.listdir(place) if name != "counted") if place.exists() else []


def upper_files(box: Box) -> set[str]:
    """The regular files in the upper."""
    return {str(path.relative_to(box.place / "upper")) for path in (box.place / "upper").rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", [b"a", b"d/b", b"e/f/c"])
def test_removing_a_name_copies_nothing(scratch: Path, name: bytes) -> None:
    """All data were copied, so that the count of the other names was right."""
    with Box(scratch, LOWER) as box:
        for other in (b"a", b"d/b", b"e/f/c"):
            box.ino(other)
        box.unlink(name)
        box.create(b"n")
        box.rename(b"n", b"e/y")  # over another hard link
        assert upper_files(box) == {"e/y"}
        assert box.read(b"d/x") == b"x"


@pytest.mark.parametrize("name", [b"a", b"d/b", b"e/f/c"])
def test_renaming_a_name_leaves_the_others_out_of_the_upper(scratch: Path, name: bytes) -> None:
    names = {b"a", b"d/b", b"e/f/c"}
    with Box(scratch, LOWER) as box, ExitStack() as known:
        for each in sorted(names):
            known.enter_context(box.node(each))
        box.rename(name, b"d/new")
        assert upper_files(box) == {"d/new"}
        for _ in range(2):
            box.write(b"d/new", b"D")
            assert {box.read(each) for each in (names - {name}) | {b"d/new"}} == {b"Data"}
            assert len({box.ino(each) for each in (names - {name}) | {b"d/new"}}) == 1
            known.close()
            box.again()


def test_a_name_that_something_is_written_through_is_in_the_upper(scratch: Path) -> None:
    """For all who read the upper without our index."""
    with Box(scratch, LOWER) as box:
        box.write(b"a", b"D")
        assert upper_files(box) == {"a"}
        box.write(b"d/b", b"N")
        assert upper_files(box) == {"a", "d/b"}
        with overlay(scratch, [box.upper, *box.stack.lowers]) as merged:
            seen = [(Path(os.fsdecode(merged)) / name).read_bytes() for name in ("a", "d/b", "e/f/c")]
        assert seen == [b"Nata", b"Nata", b"data"]


def test_the_first_write_walks_no_tree(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Box(scratch, LOWER) as box:
        with box.node(b"a"):
            monkeypatch.setattr(DirTree, "scan", None)
            box.write(b"a", b"D")
        monkeypatch.undo()
        assert box.read(b"e/f/c") == b"Data"


CALLS = ("link", "rename", "unlink")


def _stop_at(step: int) -> Iterator[pytest.MonkeyPatch]:
    """Let the call number `step` of those that change names fail, and all that follow: the server is dead."""
    left = [step]
    patch = pytest.MonkeyPatch()

    def call(real: Callable[..., None], *arguments: object, **where: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.EIO, "dead")
        real(*arguments, **where)

    for name in CALLS:
        patch.setattr(os, name, partial(call, getattr(os, name)))
    yield patch
    patch.undo()


@pytest.mark.parametrize("through", [b"a", b"d/b", b"e/f/c"])
@pytest.mark.parametrize("step", range(9))
def test_a_copy_up_that_stopped_anywhere_loses_no_later_write(scratch: Path, step: int, through: bytes) -> None:
    """What was written through another name after the crash was lost with the next remount."""
    names = (b"a", b"d/b", b"e/f/c")
    with Box(scratch, LOWER) as box:
        for _ in _stop_at(step):
            with suppress(OSError), box.node(b"d/b"):
                box.write(b"a", b"W")
        box.again()
        assert {box.read(name)[1:] for name in names} == {b"ata"}
        box.write(through, b"NEW!")
        seen = [box.read(name) for name in names]
        assert seen[names.index(through)] == b"NEW!"
        assert [box.again().read(name) for name in names] == seen
        assert box.again().read(through) == b"NEW!"


@pytest.mark.parametrize("step", range(9))
def test_a_full_disk_at_any_step_loses_nothing(scratch: Path, step: int) -> None:
    with Box(scratch, LOWER) as box, box.node(b"a"), box.node(b"d/b"):
        for _ in _stop_at(step):
            with suppress(OSError):
                box.write(b"a", b"")
        box.write(b"d/b", b"NEW!")
        assert [box.read(name) for name in (b"a", b"d/b", b"e/f/c")] == [b"NEW!"] * 3
        assert [box.again().read(name) for name in (b"a", b"d/b", b"e/f/c")] == [b"NEW!"] * 3


def test_a_truncation_that_failed_leaves_the_other_names_alone(scratch: Path) -> None:
    with Box(scratch, LOWER) as box:
        for _ in _stop_at(1):
            with pytest.raises(OSError, match="dead"), box.opened(b"a", os.O_WRONLY | os.O_TRUNC):
                pass
        assert [box.read(name) for name in (b"a", b"d/b", b"e/f/c")] == [b"data"] * 3


def test_an_upper_without_links_has_files_of_their_own(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "no links")

    box = Box(scratch, LOWER)
    monkeypatch.setattr(os, "link", refuse)
    with box, box.node(b"a"), box.node(b"d/b"):
        box.write(b"a", b"D")
        box.write(b"d/b", b"N")
        for _ in range(2):
            assert [box.read(name) for name in (b"a", b"d/b", b"e/f/c")] == [b"Data", b"Nata", b"data"]
            assert len({box.ino(name) for name in (b"a", b"d/b", b"e/f/c")}) == 3
            box.again()


def test_an_open_file_whose_name_is_gone_is_still_the_others(scratch: Path) -> None:
    with Box(scratch, LOWER) as box, box.opened(b"a") as node:
        box.unlink(b"a")
        assert box.union.attributes(node.ino).st_nlink == 2
        box.union.set_attributes(node.ino, Change(mode=0o600))
        assert (box.stat(b"d/b").st_mode & 0o777, box.ino(b"d/b")) == (0o600, node.ino)


def test_an_index_of_another_layer_or_of_nobody_is_ignored(scratch: Path) -> None:
    with Box(scratch, LOWER) as box:
        box.write(b"a", b"D")
        place = scratch / "work/layerfs-links"
        for name in ("nonsense", "1-2-3-4.5", entries(box)[0].replace(".2", ".fffffffff")):
            (place / name).touch()
        os.utime(os.path.join(box.layer(1), b"d/b"), ns=(5, 5))  # the layer is another one now
        assert [box.again().read(name) for name in (b"a", b"d/b")] == [b"Data", b"data"]
        assert len(entries(box)) == 1
        os.chmod(place, 0o755)  # anybody may have written there
        os.utime(os.path.join(box.layer(1), b"d/b"), ns=(0, 0))
        assert [box.again().read(name) for name in (b"a", b"d/b")] == [b"Data", b"data"]


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
