"""Inode numbers: unique over filesystems, the same after copy-up, rename and remount, also without root."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from layerfs.sys.dirs import RENAME_EXCHANGE
from layerfs.union.attrs import Change
from layerfs.union.numbers import HASHED, Numbers
from tests.host import find_person
from tests.oracle.trees import Kind as Type
from tests.oracle.trees import Layer, Node, file, hardlink, symlink
from tests.union.box import Box, as_person

LOWER: Layer = {
    b"f": file(b"f"), b"s": symlink(b"f"), b"t": symlink(b"x"), b"p": Node(Type.FIFO), b"d/x": file(b"x"),
    b"d/e/y": file(b"y"), b"h": file(b"h"), b"i": hardlink(b"h"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("devices", "device", "ino", "expected"),
    [
        ([7], 7, 12, 12),
        ([7, 8], 7, 12, 12),
        ([7, 8], 8, 12, 1 << 49 | 12),
        ([7, 8, 9], 8, 12, 1 << 49 | 12),
        ([7, 8, 9], 9, (1 << 49) - 1, 2 << 49 | (1 << 49) - 1),
    ],
)
def test_number_is_rank_and_inode_number(devices: list[int], device: int, ino: int, expected: int) -> None:
    """A third filesystem on top changed the numbers of the second, and numbers that were kept met others."""
    assert Numbers(devices).of(device, ino) == expected


@pytest.mark.parametrize("ino", [0, 1, 1 << 49, (1 << 64) - 1])
def test_what_does_not_fit_is_hashed_into_a_range_of_its_own(ino: int) -> None:
    numbers = Numbers([7, 8])
    one, two = numbers.of(7, ino), numbers.of(8, ino)
    assert one != two
    assert all(HASHED <= number < 1 << 62 for number in (one, two))
    assert (one, two) == (numbers.of(7, ino), numbers.of(8, ino))


def test_filesystem_inside_a_layer_gets_a_rank_of_its_own() -> None:
    numbers = Numbers([7])
    assert numbers.of(99, 5) == 1 << 49 | 5


def touch_everything(box: Box) -> None:
    for name in (b"f", b"s", b"p", b"d", b"d/x", b"d/e", b"h"):
        box.change(name, Change(mtime_ns=5))


def shuffle(box: Box) -> dict[bytes, bytes]:
    """Rename everything; returns the new name of each."""
    box.rename(b"f", b"d/f2")
    box.rename(b"s", b"d/e/s2")
    box.rename(b"p", b"d/p2")
    box.rename(b"d", b"d2")
    box.symlink(b"other", b"s")
    return {
        b"f": b"d2/f2", b"s": b"d2/e/s2", b"p": b"d2/p2", b"d": b"d2", b"d/x": b"d2/x", b"d/e": b"d2/e",
        b"d/e/y": b"d2/e/y", b"h": b"h", b"i": b"i", b"t": b"t",
    }  # fmt: skip


def check_constancy(box: Box) -> None:
    before = box.numbers()
    assert before.pop(b"i") == before[b"h"]
    assert len(set(before.values())) == len(before)
    assert box.again().numbers() == before | {b"i": before[b"h"]}
    touch_everything(box)
    assert box.numbers() == box.again().numbers() == before | {b"i": before[b"h"]}
    moved = shuffle(box)
    after = {moved[name]: number for name, number in before.items()} | {b"i": before[b"h"], b"s": box.ino(b"s")}
    assert box.ino(b"s") not in before.values()
    assert box.numbers() == after
    assert box.again().numbers() == after
    box.rename(b"t", b"s", RENAME_EXCHANGE)
    swapped = after | {b"t": after[b"s"], b"s": after[b"t"]}
    assert box.again().numbers() == swapped
    assert box.is_clean()


def test_numbers_stay(scratch: Path) -> None:
    with Box(scratch, LOWER) as box:
        check_constancy(box)


def test_numbers_stay_without_root(scratch: Path, require: Callable[..., None]) -> None:
    """A new symlink at the name of a renamed one was taken for it, and a renamed one changed its number at remount."""
    require("root", "person", "user xattrs")
    person = find_person(scratch / "home")
    person.owns(scratch)
    with as_person(person.uid, person.gid):
        with Box(scratch, LOWER, prefix="user.overlay.", owner=(person.uid, person.gid)) as box:
            assert not box.marks.trusted
            check_constancy(box)


@pytest.mark.mounts
def test_numbers_of_two_filesystems_differ(scratch: Path, disk: Path, require: Callable[..., None]) -> None:
    require("root")
    for place in (scratch / "a", scratch / "b"):
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], check=True)
    with (
        Box(scratch / "a", {b"a%d" % index: file(b"") for index in range(50)}) as one,
        Box(scratch / "b", {b"b%d" % index: file(b"") for index in range(50)}) as two,
    ):
        stack = type(one.stack)((two.layer(1), one.layer(1)), os.fsencode(disk / "upper"), os.fsencode(disk / "work"))
    (disk / "upper").mkdir()
    (disk / "work").mkdir()
    both = Box.__new__(Box)
    both.stack, both.options, both.limit = stack, one.options, 0
    both.union = both._open()
    with both:
        before = both.numbers()
        assert len(set(before.values())) == 100
        for name in (b"a1", b"b1", b"a2"):
            both.change(name, Change(mtime_ns=1))
        both.rename(b"a2", b"c2")
        after = before | {b"c2": before[b"a2"]}
        del after[b"a2"]
        assert both.numbers() == after
        assert both.again().numbers() == after


def test_number_kept_from_an_exchanged_layer_mixes_up_nothing(scratch: Path) -> None:
    """A kept number that another file of the new layer bears made two files one: each showed the other's content."""
    with Box(scratch, {b"a": file(b"1")}) as box:
        box.write(b"a", b"2")
        kept = box.ino(b"a")
        box.union.close()
        lower = box.layer(1)
        os.rename(os.path.join(lower, b"a"), os.path.join(lower, b"b"))  # the inode goes on under another name
        box.union = box._open()
        assert box.tree() == {b"a": b"2", b"b": b"1"}
        assert box.ino(b"a") == kept
        with box.node(b"a") as one, box.node(b"b") as two:
            assert one.ino != two.ino
        box.write(b"b", b"3")
        assert box.tree() == {b"a": b"2", b"b": b"3"}
        assert box.is_clean()


def test_names_of_a_hard_link_share_a_number_and_a_count(scratch: Path) -> None:
    with Box(scratch, LOWER) as box:
        assert box.ino(b"h") == box.ino(b"i")
        assert box.stat(b"h").st_nlink == 2
        box.link(b"f", b"g")
        assert box.ino(b"f") == box.ino(b"g")
        assert box.stat(b"f").st_nlink == 2
        assert box.again().ino(b"f") == box.ino(b"g")


def test_xino_off_keeps_numbers_within_32_bits() -> None:
    """Programs without large-file support got EOVERFLOW for every file that was not of the lowest filesystem."""
    numbers = Numbers([7, 8, 9], compact=True)
    small = {(device, ino): numbers.of(device, ino) for device in (7, 8, 9, 10) for ino in (2, 5, (1 << 29) + 3)}
    assert all(number < 1 << 32 for (device, _), number in small.items() if device != 10)
    large = {(device, ino): numbers.of(device, ino) for device in (7, 8) for ino in (1 << 30, 1 << 31, 1 << 40)}
    assert len(set(small.values()) | set(large.values())) == len(small) + len(large)
    assert Numbers([7], compact=True).of(7, 1 << 31) == 1 << 31
