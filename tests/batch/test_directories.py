"""Directories opened and listed by one call, what of them is left to its caller, and threads that look ahead."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.batch.directories import COLD, SELF, Ahead, Listed, read
from tests.oracle.trees import build, directory, file, symlink
from tests.waiting import wait_until

LAYER = {
    b"empty": directory(),
    b"plain/d": directory(),
    b"plain/d/below": file(b"1"),
    b"plain/f": file(b"1"),
    b"plain/l": symlink(b"d"),
    b"plain/line\nend\xff": file(b""),
    b"link": symlink(b"plain"),
    b"file": file(b"1"),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    build(os.fsencode(tmp_path / "layer"), LAYER)
    return tmp_path / "layer"


@pytest.fixture
def at(place: Path) -> Iterator[int]:
    fd = os.open(place, os.O_RDONLY)
    yield fd
    os.close(fd)


def listed(at: int, *names: bytes, cold: int = COLD) -> list[Listed]:
    """Read directories, and close what was opened."""
    found, _ = read([(at, name) for name in names], cold)
    for each, name in zip(found, names, strict=True):
        if each.fd >= 0 and name != SELF:
            os.close(each.fd)
    return found


def kinds(found: Listed) -> dict[bytes, bool]:
    assert found.names is not None
    return dict(zip(found.names, map(bool, found.kinds), strict=True))


def test_names_and_kinds_are_those_of_scandir_in_its_order(place: Path, at: int) -> None:
    (found,) = listed(at, b"plain")
    with os.scandir(os.fsencode(place / "plain")) as entries:
        own = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    assert list(kinds(found).items()) == own


@pytest.mark.parametrize("cold", [COLD, -1], ids=["one-by-one", "side-by-side"])
def test_each_of_many_directories_has_its_own_names(place: Path, at: int, cold: int) -> None:
    for number in range(60):
        (place / f"{number}").mkdir()
        for name in range(number % 7):
            (place / f"{number}" / f"{number}-{name}").touch()
    found = listed(at, *(b"%d" % number for number in range(60)), cold=cold)
    for number, each in enumerate(found):
        assert kinds(each) == {b"%d-%d" % (number, name): False for name in range(number % 7)}


def test_an_open_directory_is_read_from_its_beginning_each_time(place: Path) -> None:
    fd = os.open(place / "plain", os.O_RDONLY)
    try:
        assert [len(kinds(listed(fd, SELF)[0])) for _ in range(3)] == [4, 4, 4]
        assert len(os.listdir(fd)) == 4
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", [b"absent", b"link", b"file"])
def test_what_cannot_be_opened_as_a_directory_leaves_the_others_alone(at: int, name: bytes) -> None:
    odd, plain, empty = listed(at, name, b"plain", b"empty")
    assert odd == Listed(-1, has_xattrs=False, names=None, kinds=b"")
    assert len(kinds(plain)) == 4
    assert kinds(empty) == {}


def test_a_directory_with_other_things_in_it_or_very_many_is_for_the_caller(place: Path, at: int) -> None:
    os.mkfifo(place / "empty/fifo")
    (place / "many").mkdir()
    for number in range(700):
        (place / "many" / f"{number:0>100}").touch()
    with socket.socket(socket.AF_UNIX) as end:
        (place / "other").mkdir()
        end.bind(f"/proc/self/fd/{at}/other/socket")
    assert [(each.names, each.fd >= 0) for each in listed(at, b"empty", b"many", b"other")] == [(None, True)] * 3


def test_extended_attributes_are_told_of(place: Path, at: int) -> None:
    os.setxattr(place / "plain", "user.word", b"value")
    assert [each.has_xattrs for each in listed(at, b"plain", b"empty")] == [True, False]


def test_a_path_only_descriptor_is_for_the_caller(place: Path) -> None:
    fd = os.open(place / "plain", os.O_PATH)
    try:
        assert listed(fd, SELF) == [Listed(fd, has_xattrs=True, names=None, kinds=b"")]
    finally:
        os.close(fd)


def test_none_is_none() -> None:
    assert read([]) == ([], False)


def test_directories_are_looked_at_until_none_had_to_be_waited_for(place: Path, at: int) -> None:
    ahead = Ahead()
    try:
        assert ahead.ask(at, b"plain/d")
        wait_until(lambda: not any(ahead.ask(at, name) for name in (b"plain", b"absent", b"link", b"../..", b"empty")))
        ahead.waited()
        assert ahead.ask(at, b"plain")
    finally:
        ahead.close()


def test_threads_that_look_ahead_end_with_what_is_still_asked_for(place: Path, at: int) -> None:
    before = len(os.listdir("/proc/self/task"))
    for _ in range(20):
        ahead = Ahead()
        assert len(os.listdir("/proc/self/task")) > before
        for _ in range(300):
            ahead.ask(at, b"plain")
        ahead.close()
        ahead.close()
    assert len(os.listdir("/proc/self/task")) == before
