"""Open directories: each handle reads the names as they were at its last rewind, and shares what has not changed."""

import random
import tracemalloc

import pytest

from layerfs.fuse.listings import Listings, Names

MANY = [b"name-%d" % number for number in range(20_000)]


def test_a_handle_keeps_its_names_until_it_is_rewound() -> None:
    listings = Listings()
    first, second = listings.open(5), listings.open(5)
    assert list(listings.rewind(first, [b"a", b"b"]).since(0)) == [b"a", b"b"]
    assert list(listings.rewind(second, [b"a", b"b", b"c"]).since(0)) == [b"a", b"b", b"c"]
    kept = listings[first].names
    assert kept is not None and list(kept.since(0)) == [b"a", b"b"] and len(kept) == 2
    assert list(listings.rewind(first, [b"c"]).since(0)) == [b"c"]


def test_a_closed_handle_is_unknown_and_closing_twice_is_nothing() -> None:
    listings = Listings()
    handle = listings.open(5)
    listings.close(handle)
    listings.close(handle)
    with pytest.raises(KeyError):
        listings[handle]
    assert listings.open(5) != handle


def test_handles_between_two_changes_share_one_list() -> None:
    listings = Listings()
    names = [listings.rewind(listings.open(5), list(MANY)) for _ in range(5)]
    assert all(each is names[0] for each in names)
    assert listings.rewind(listings.open(6), list(MANY)) is not names[0]


def test_handles_of_a_directory_that_changes_cost_what_has_changed() -> None:
    """Each open directory of 60,000 names cost 465 KB: a client could exhaust the server's memory."""
    listings, names = Listings(), list(MANY)
    listings.rewind(listings.open(5), names)
    listings.rewind(listings.open(5), names[1:])  # cut into chunks from here on
    tracemalloc.start()
    try:
        for turn in range(50):
            names.insert(turn * 300, b"new-%d" % turn)
            del names[turn * 200]
            assert list(listings.rewind(listings.open(5), names).since(0)) == names
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown / 50 < 8 * len(MANY) / 5


def test_every_position_is_reached_however_the_names_are_cut() -> None:
    draw = random.Random(1)
    names = Names(MANY)
    names.share(Names(MANY[5:]))
    assert names.is_same(MANY) and not names.is_same(MANY[:-1]) and not names.is_same([*MANY[:-1], b"other"])
    for position in [0, 1, len(MANY) - 1, len(MANY), len(MANY) + 7, *draw.choices(range(len(MANY)), k=50)]:
        assert list(names.since(position)) == MANY[position:]
        assert names.part(position, position + 10) == MANY[position : position + 10]
    empty = Names([])
    empty.share(names)
    names.share(empty)
    assert list(empty.since(0)) == [] and names.is_same(MANY)
