"""Directories of many layers fetched ahead by helpers: that changes no answer and leaves nothing behind."""

import os
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from layerfs.fuse import prefetch_listings
from layerfs.fuse.prefetch_listings import ListingPrefetch
from layerfs.model import Stack
from layerfs.union.inodes import Directory
from layerfs.union.listing import Listing
from layerfs.union.options import UnionOptions
from layerfs.union.union import Union
from tests.waiting import PATIENCE

LAYERS = 12


@pytest.fixture
def union(tmp_path: Path) -> Iterator[Union]:
    for layer in range(LAYERS):
        for directory in ("a", "b", "c", "d"):
            (tmp_path / f"l{layer}" / directory).mkdir(parents=True)
            (tmp_path / f"l{layer}" / directory / f"f{layer}").touch()
    stack = Stack(tuple(os.fsencode(tmp_path / f"l{layer}") for layer in range(LAYERS)))
    with closing(Union.open(stack, UnionOptions())) as opened:
        yield opened


def _directory(union: Union, name: bytes) -> Directory:
    node, _ = union.lookup(1, name)
    assert isinstance(node, Directory)
    union.remember(node)
    return node


def _descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_listing_is_the_same_with_helpers_and_they_end(union: Union, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch_listings, "COLD", 0.0)
    monkeypatch.setattr(prefetch_listings, "sleeps", count().__next__)
    before = _descriptors()
    prefetch = ListingPrefetch(union.trees)
    union.read_with(prefetch.together)
    assert sorted(union.names(_directory(union, b"a").ino)) == sorted(b"f%d" % n for n in range(LAYERS))
    children = list(prefetch._children)
    assert len(children) == prefetch_listings.HELPERS
    prefetch.close()
    assert not any(os.path.exists(f"/proc/{child}") for child in children)
    union._ov.handles.close()
    assert _descriptors() == before


def test_helper_holds_only_the_roots_and_its_pipe(union: Union) -> None:
    with closing(ListingPrefetch(union.trees)) as prefetch:
        prefetch._start()
        table = Path(f"/proc/{prefetch._children[0]}/fd")
        deadline = time.monotonic() + PATIENCE
        while len(list(table.iterdir())) > LAYERS + 1:
            assert time.monotonic() < deadline, [os.readlink(fd) for fd in table.iterdir()]


def test_helper_that_died_costs_nothing_but_its_advice(union: Union, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch_listings, "COLD", 0.0)
    monkeypatch.setattr(prefetch_listings, "sleeps", count().__next__)
    with closing(ListingPrefetch(union.trees)) as prefetch:
        union.read_with(prefetch.together)
        union.names(_directory(union, b"a").ino)
        for child in prefetch._children:
            os.kill(child, 9)
        assert len(union.names(_directory(union, b"b").ino)) == LAYERS


def test_warm_directories_and_short_stacks_need_no_helper(union: Union, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch_listings, "COLD", 1e9)
    with closing(ListingPrefetch(union.trees)) as prefetch:
        union.read_with(prefetch.together)
        union.names(_directory(union, b"a").ino)
        assert prefetch._children == []


def test_a_directory_that_only_waited_for_a_processor_needs_no_helper(
    union: Union, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefetch_listings, "COLD", 0.0)
    monkeypatch.setattr(prefetch_listings, "sleeps", lambda: 7)
    with closing(ListingPrefetch(union.trees)) as prefetch:
        union.read_with(prefetch.together)
        union.names(_directory(union, b"a").ino)
        assert prefetch._children == []


@pytest.mark.parametrize(
    ("visited", "foreseen"),
    [
        ([b"a", b"b"], [b"c", b"d"]),
        ([b"a", b"c"], []),
        ([b"c", b"d"], []),
        ([b"a", b"b", b"c"], []),
    ],
    ids=["in order", "at random", "at the end", "told already"],
)
def test_walk_is_seen_once_two_directories_follow_each_other(
    union: Union, visited: list[bytes], foreseen: list[bytes]
) -> None:
    union.names(1)
    root = union.root()
    assert root.listing is not None
    root.listing = Listing(dict(sorted(root.listing.names.items())))
    walk = prefetch_listings._Walk()
    assert [walk.next(root, name) for name in visited][-1] == foreseen
