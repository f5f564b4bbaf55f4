"""A large directory is loaded in steps, once for all who need it, and what is changed meanwhile is kept."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from layerfs.fuse.loading import Loading
from layerfs.fuse.prefetch_listings import ListingPrefetch
from layerfs.fuse.threads import Threaded
from layerfs.union import layers, readdir
from layerfs.union.inodes import Directory
from layerfs.union.mutate import Caller
from layerfs.union.readdir import listing_of
from tests.oracle.trees import directory, file
from tests.union.box import Box

NAMES = 100


@pytest.fixture
def box(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    monkeypatch.setattr(readdir, "STEP", 10)
    monkeypatch.setattr(layers, "AT_ONCE", 10)
    names = {b"d/%d" % number: file(b"") for number in range(NAMES)}
    with Box(scratch, {b"d": directory(), b"other": directory()} | names, names) as box:
        yield box


def found(box: Box, name: bytes) -> Directory:
    node, _ = box.union.lookup(1, name)
    box.union.remember(node)
    assert isinstance(node, Directory)
    return node


def loading(box: Box) -> Loading:
    return Loading(box.union, ListingPrefetch(box.union.trees), Threaded())


def loads(box: Box, monkeypatch: pytest.MonkeyPatch) -> list[Directory]:
    """Have noted which directories begin to be loaded."""
    begun: list[Directory] = []
    real = box.union.loading

    def count(directory: Directory) -> Iterator[None]:
        begun.append(directory)
        return real(directory)

    monkeypatch.setattr(box.union, "loading", count)
    return begun


async def test_others_have_their_turn_and_all_get_one_listing(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    node, load, turns = found(box, b"d"), loading(box), 0
    begun = loads(box, monkeypatch)

    async def other() -> None:
        nonlocal turns
        while node.listing is None:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for task in (load.load, load.load, load.load):
            nursery.start_soon(task, node)
        nursery.start_soon(other)
    assert turns >= 2 * NAMES / 10 and begun == [node]
    assert sorted(box.union.names(node.ino)) == sorted(b"%d" % number for number in range(NAMES))


async def test_what_is_changed_meanwhile_is_not_lost(box: Box) -> None:
    node, load = found(box, b"d"), loading(box)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.load, node)
        await trio.lowlevel.checkpoint()
        assert node.listing is None
        box.union.unlink(node.ino, b"7")  # somebody who does not wait
        box.union.mkdir(node.ino, b"new", 0o755, Caller(0, 0, 0))
    names = {b"%d" % number for number in range(NAMES)} - {b"7"} | {b"new"}
    assert set(listing_of(box.ov, node).names) == names


async def test_an_error_is_each_ones_own_and_the_next_attempt_is_new(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    node, load = found(box, b"d"), loading(box)
    real = layers.DirTree._kinds
    monkeypatch.setattr(layers.DirTree, "_kinds", lambda *_: (_ for _ in ()).throw(OSError(5, "damaged")))
    with pytest.raises(OSError):
        await load.load(node)
    monkeypatch.setattr(layers.DirTree, "_kinds", real)
    await load.load(node)
    assert node.listing is not None and load._under_way == {}


async def test_a_victim_is_loaded_and_what_there_is_not_is_no_error(box: Box) -> None:
    node, load = found(box, b"d"), loading(box)
    await load.victim(1, b"none")
    await load.victim(1, b"d")
    assert node.listing is not None
    await load.parents(1, node.ino)


async def test_what_takes_more_than_a_moment_is_begun_and_ended_by_others(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = loads(box, monkeypatch)
    node, other, load = found(box, b"d"), found(box, b"other"), loading(box)
    assert load.at_once(other) and load.at_once(other) and other.listing is not None
    assert not load.at_once(node) and not load.at_once(node) and node.listing is None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.load, node)
        await trio.lowlevel.checkpoint()
        assert not load.at_once(node), "somebody else is at it"
    assert load.at_once(node) and begun == [other, node] and load._begun == {}
    assert len(box.union.names(node.ino)) == NAMES


async def test_what_was_begun_is_let_go_when_somebody_could_not_wait(box: Box) -> None:
    node, load = found(box, b"d"), loading(box)
    assert not load.at_once(node)
    assert len(listing_of(box.ov, node).names) == NAMES
    await load.load(node)
    assert load.at_once(node) and load._begun == {}


def test_no_descriptor_is_left_by_a_listing_that_nobody_ends(box: Box) -> None:
    node = found(box, b"d")
    before = set(os.listdir("/proc/self/fd"))
    steps = box.union.loading(node)
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    del steps
    assert len(set(os.listdir("/proc/self/fd")) - before) <= 3  # the shares of the layers
