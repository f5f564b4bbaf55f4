"""One directory's listing: every edit, and what it then says about the lowers; the cookies of its names."""

import random

import pytest

from layerfs.union.layers import DirTree, Part
from layerfs.union.listing import SPARE, Listing, Order, Whiteout, holder, is_upper_only


def share(index: int) -> Part:
    """A directory's share in a layer."""
    tree = DirTree.__new__(DirTree)
    tree.index = index
    return Part(tree, None, b"")


UPPER = share(0)


@pytest.fixture
def shares() -> tuple[Part, Part]:
    """A directory's share in the upper and in a lower."""
    return UPPER, share(1)


def test_a_name_that_only_the_upper_has_needs_no_whiteout(shares: tuple[Part, Part]) -> None:
    upper, lower = shares
    listing = Listing({b"below": lower})
    listing.made(b"file", upper, is_dir=False)
    listing.made(b"dir", upper, is_dir=True)
    names = {name: listing.needs_whiteout(name) for name in listing.names}
    assert names == {b"below": True, b"file": False, b"dir": False}


def test_a_copied_up_name_hides_what_it_came_from(shares: tuple[Part, Part]) -> None:
    upper, lower = shares
    listing = Listing({b"file": lower, b"dir": (lower,)})
    listing.copied_up(b"file", upper)
    listing.copied_up(b"dir", (upper, lower))
    assert [holder(listing.names[name]) for name in (b"file", b"dir")] == [upper, upper]
    assert listing.needs_whiteout(b"file") and listing.needs_whiteout(b"dir")
    assert is_upper_only(listing.names[b"file"]) and not is_upper_only(listing.names[b"dir"])


def test_what_is_made_over_a_whiteout_still_hides_the_lowers(shares: tuple[Part, Part]) -> None:
    upper, lower = shares
    listing = Listing({b"name": lower})
    listing.whiteout_made(b"name", Whiteout.AT_NAME)
    listing.removed(b"name", shadowed=True)
    assert (dict(listing.names), listing.is_whiteout_at(b"name"), listing.must_be_opaque(b"name")) == ({}, True, True)
    assert listing.made(b"name", upper, is_dir=False) is Whiteout.AT_NAME
    assert (dict(listing.whiteouts), listing.needs_whiteout(b"name")) == ({}, True)


def test_a_whiteout_of_nothing_still_asks_for_an_opaque_directory(shares: tuple[Part, Part]) -> None:
    """Kernel overlayfs merges a directory that is not opaque with whatever a layer put below later has there."""
    listing = Listing({}, whiteouts={b"name": Whiteout.BESIDE})
    assert listing.must_be_opaque(b"name") and not listing.is_shadowed(b"name")
    assert not listing.is_whiteout_at(b"name")


def test_a_directory_that_was_cut_off_needs_no_whiteouts(shares: tuple[Part, Part]) -> None:
    upper, lower = shares
    listing = Listing({b"dir": (upper, lower)}, {b"dir", b"gone"}, {b"gone": Whiteout.AT_NAME})
    assert listing.cut_off(upper) == [b"gone"]
    assert listing.whiteout_dropped(b"gone") and not listing.whiteout_dropped(b"gone")
    assert (dict(listing.names), dict(listing.whiteouts)) == ({b"dir": (upper,)}, {})
    assert not listing.needs_whiteout(b"dir")


def cookies(listing: Listing) -> dict[bytes, int]:
    return {name: cookie for cookie, name in listing.keep_order().since(0, listing.names)}


def test_a_name_keeps_its_cookie_while_others_come_and_go() -> None:
    listing = Listing({b"a": UPPER, b"b": UPPER, b"c": UPPER})
    assert cookies(listing) == {b"a": 3, b"b": 4, b"c": 5} and listing.is_whole
    listing.removed(b"a", shadowed=False)
    listing.made(b"new", UPPER, is_dir=False)
    listing.made(b"b", UPPER, is_dir=False)  # renamed over
    assert cookies(listing) == {b"b": 4, b"c": 5, b"new": 6} and not listing.is_whole
    listing.made(b"a", UPPER, is_dir=False)
    assert cookies(listing) == {b"a": 3, b"b": 4, b"c": 5, b"new": 6}
    assert list(listing.names) != [b"a", b"b", b"c", b"new"] and not listing.is_whole


def test_cookies_stay_when_the_places_of_names_that_are_gone_are_given_up() -> None:
    draw, listing = random.Random(1), Listing({b"%d" % number: UPPER for number in range(50)})
    known, order = cookies(listing), listing.keep_order()
    for number in range(20 * SPARE):
        listing.made(b"new-%d" % number, UPPER, is_dir=False)
        if number % 3:
            listing.removed(b"new-%d" % draw.randrange(number), shadowed=False)
        if number % SPARE == 0:
            found = cookies(listing)
            assert found.keys() == listing.names.keys()
            assert known.items() <= found.items() and list(found.values()) == sorted(found.values())
            cookie = draw.choice(list(found.values()))
            after = [name for name, own in found.items() if own > cookie]
            assert [name for _, name in order.since(cookie, listing.names)] == after


def read(listing: Listing, cookie: int) -> list[bytes]:
    return [name for _, name in listing.since(cookie)]


def test_what_is_made_while_a_client_reads_is_left_out_until_one_begins_anew() -> None:
    listing = Listing({b"a": UPPER, b"b": UPPER})
    assert read(listing, 0) == [b"a", b"b"]
    listing.made(b"c", UPPER, is_dir=False)
    listing.removed(b"b", shadowed=False)
    assert read(listing, 3) == []
    assert read(listing, 0) == [b"a", b"c"]
    assert read(listing, 3) == [b"c"]


def test_a_client_that_has_read_half_elsewhere_misses_nothing() -> None:
    """The kernel keeps listings; where it drops one, a client asks with a cookie that was never given here."""
    listing = Listing(dict.fromkeys((b"a", b"b", b"c", b"d"), UPPER))
    assert [cookie for cookie, _ in listing.since(0)] == [3, 4, 5, 6]
    listing.removed(b"a", shadowed=False)
    assert read(listing, 4) == [b"c", b"d"]


def test_a_client_that_began_elsewhere_is_given_what_was_there_then() -> None:
    """A lane lists from the beginning without telling; what was made since the last reader here began was left out."""
    listing = Listing({b"a": UPPER, b"b": UPPER})
    listing.begin()
    assert read(listing, 0) == [b"a", b"b"]
    listing.made(b"c", UPPER, is_dir=False)
    listing.begin()
    listing.made(b"d", UPPER, is_dir=False)
    assert read(listing, 3) == [b"b", b"c"]


def test_a_name_that_is_made_and_removed_for_ever_takes_no_memory() -> None:
    order = Order([b"a"])
    for number in range(10 * SPARE):
        order.made(b"%d" % number)
        order.removed(b"%d" % number)
    assert len(order.after(0, 10**6)) <= 2 * SPARE + 4
