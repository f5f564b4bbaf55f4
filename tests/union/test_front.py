"""A front that answers for files: each is answered for by the front or by the union, never by both."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerfs.union.attrs import Change
from layerfs.union.front import Known
from layerfs.union.inodes import File
from layerfs.union.layers import Part
from layerfs.union.shown import Attributes, fingerprint
from tests.oracle.trees import file
from tests.union.box import Box


class Memory:
    """A front that remembers what it is told."""

    def __init__(self) -> None:
        self.claimed: dict[int, int] = {}
        self.files: dict[int, Known] = {}
        self.dropped: list[int] = []
        self.topped: dict[int, Part] = {}
        self.kept = 0
        self.takes = True
        self.number: Callable[[Known], int] = lambda known: known.number

    def claim(self, number: int) -> None:
        assert number not in self.files, "both answer for it"
        self.claimed[number] = self.claimed.get(number, 0) + 1

    def disclaim(self, number: int) -> None:
        self.claimed[number] -= 1
        if not self.claimed[number]:
            del self.claimed[number]

    def take(self, number: int) -> Known | None:
        return self.files.pop(number, None)

    def give(self, known: Known) -> bool:
        if not self.takes:
            return False
        number = self.number(known)
        assert number not in self.claimed
        self.files[number] = known
        return True

    def children(self, number: int) -> int:
        return self.kept

    def top(self, number: int, part: Part, shown: Attributes, *, makes: bool) -> None:
        self.topped[number] = part
        self.makes = makes

    def share(self, part: Part, fd: int) -> None:
        """Hear of a descriptor."""

    def drop(self, number: int) -> None:
        self.dropped.append(number)


@pytest.fixture
def box(scratch: Path) -> Iterator[Box]:
    with Box(scratch, {b"d/f": file(b"data"), b"d/g": file(b"more")}) as box:
        yield box


def known(box: Box, parent: int, name: bytes) -> tuple[int, Known]:
    """What a front would have of a file of `d`, and the file's number."""
    st = os.lstat(os.path.join(box.layer(1), b"d", name))
    number = box.ov.numbers.of(st.st_dev, st.st_ino)
    return number, Known(parent, name, 3, st.st_dev, st.st_ino, st.st_mode, st.st_uid, st.st_gid, 0, -1, True)


def test_every_node_claims_its_number_as_long_as_it_lives(box: Box) -> None:
    front = Memory()
    box.union.answer_with(front)
    assert front.claimed == {1: 1}
    with box.node(b"d/f") as node:
        assert set(front.claimed) == set(box.ov.table.nodes) and node.ino in front.claimed
    assert front.claimed == {1: 1}


def test_a_copy_up_claims_the_number_of_the_copy_as_well(box: Box) -> None:
    front = Memory()
    box.union.answer_with(front)
    with box.node(b"d/f") as node:
        box.union.set_xattr(node.ino, b"user.x", b"1")
        assert node.own in front.claimed and node.ino in front.claimed
    assert front.claimed == {1: 1}


def test_a_file_of_the_front_is_adopted_by_number_and_by_name(box: Box) -> None:
    front = Memory()
    box.union.answer_with(front)
    with box.node(b"d") as directory:
        box.union.names(directory.ino)
        number, front.files[number] = (found := known(box, directory.ino, b"f"))[0], found[1]
        node = box.union.node(number)
        assert (node.lookups, node.name, node.parent) == (3, b"f", directory)
        other, front.files[other] = (found := known(box, directory.ino, b"g"))[0], found[1]
        assert box.union.lookup(directory.ino, b"g")[0].lookups == 3
        for each in (number, other):
            box.union.forget(each, 3)
    assert front.claimed == {1: 1} and not front.files


def test_a_file_whose_name_is_not_there_is_stale_and_its_descriptor_closed(box: Box) -> None:
    front = Memory()
    box.union.answer_with(front)
    with box.node(b"d") as directory:
        number, file_known = known(box, directory.ino, b"f")
        fd = os.open("/dev/null", os.O_RDONLY)
        front.files[number] = file_known._replace(name=b"nothing", opens=1, fd=fd)
        with pytest.raises(OSError, match="Stale"):
            box.union.node(number)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_a_directory_stays_while_the_front_has_files_of_it(box: Box) -> None:
    front = Memory()
    box.union.answer_with(front)
    front.kept = 1
    with box.node(b"d") as directory:
        number = directory.ino
    assert box.union.node(number)
    front.kept = 0
    box.union.reap(number)
    with pytest.raises(OSError, match="Stale"):
        box.union.node(number)
    assert number in front.dropped


def test_without_a_front_nothing_is_told(box: Box) -> None:
    front = Memory()
    box.union.answer_with(front)
    box.union.answer_with(None)
    with box.node(b"d/f"):
        assert front.claimed == {1: 1}


def test_a_file_goes_back_to_the_front_once_it_is_closed_unless_more_than_a_stat_is_known_of_it(box: Box) -> None:
    front = Memory()
    front.number = lambda known: box.ov.numbers.of(known.device, known.number)
    surrender = box.union.answer_with(front)
    directory, _ = box.union.lookup(1, b"d")
    node, st = box.union.lookup(directory.ino, b"f")
    assert isinstance(node, File) and node.part is not None
    box.union.remember(node)
    surrender(node.ino)
    assert not front.files, "the front does not have its directory"
    node.part.handed = directory.ino, 0
    front.takes = False
    surrender(node.ino)
    assert box.union.node(node.ino) is node and front.claimed[node.ino] == 1
    front.takes = True
    box.union.open_file(node.ino, os.O_RDONLY)
    surrender(node.ino)
    assert not front.files, "it is open"
    box.union.release(node.ino)
    surrender(node.ino)
    assert front.files[node.ino] == Known(
        directory.ino, b"f", 1, st.st_dev, st.st_ino, st.st_mode, st.st_uid, st.st_gid, 0, -1, False
    )
    again = box.union.node(node.ino)
    assert again is not node and again.lookups == 1
    box.union.set_attributes(node.ino, Change(mode=0o600))
    surrender(node.ino)
    assert not front.files, "it is the upper's"
    box.union.forget(node.ino, 1)


def test_a_directory_of_the_front_is_a_node_and_its_descriptor_the_unions(box: Box) -> None:
    front = Memory()
    box.union.answer_with(front)
    with box.node(b"d") as directory:
        box.union.mkdir(directory.ino, b"own", 0o755, box.caller)  # the upper has a share from now on
        os.mkdir(os.path.join(box.upper, b"d/new"))
        fd = os.open(os.path.join(box.upper, b"d/new"), os.O_RDONLY)
        number = box.ov.numbers.of(os.fstat(fd).st_dev, os.fstat(fd).st_ino)
        taken = box.union.take_in_directory(directory.ino, b"new", number, fd, fingerprint(os.fstat(fd)))
        assert taken is not None and taken[1].fd == fd
        node = box.union.directory(number)
        assert (node.listing, node.lookups, number in front.claimed) == (taken[0], 1, True)
        assert box.union.lookup(directory.ino, b"new")[0] is node
        box.union.forget(number, 1)


@pytest.mark.parametrize("is_known", [True, False])
def test_a_directory_that_nobody_was_told_of_is_a_name_and_no_node(box: Box, *, is_known: bool) -> None:
    box.union.answer_with(Memory())
    with box.node(b"d") as directory:
        box.union.mkdir(directory.ino, b"own", 0o755, box.caller)
        os.mkdir(os.path.join(box.upper, b"d/new"))
        fd = -1 if is_known else os.open(box.upper, os.O_RDONLY)
        number = directory.ino if is_known else 1 << 40  # of a directory that the union has forgotten
        assert box.union.take_in_directory(number, b"new", 7, fd, 8) is None
        assert (b"new" in box.union.names(directory.ino)) is is_known
        if not is_known:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)
