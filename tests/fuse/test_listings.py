"""Open directories: a client goes on after the name whose cookie it has, whatever was made or removed meanwhile."""

import pytest

from layerfs.fuse.listings import BY_NUMBER, KEPT, Listings
from layerfs.union.listing import Listing
from tests.union.test_listing import UPPER


def of(*names: bytes) -> Listing:
    return Listing(dict.fromkeys(names, UPPER))


def read(listings: Listings, handle: int, cookie: int, listing: Listing) -> list[bytes]:
    return [name for _, name in listings[handle].since(cookie, listing)]


def test_what_is_made_while_a_client_reads_is_left_out_until_it_begins_anew() -> None:
    listings, listing = Listings(), of(b"a", b"b")
    handle = listings.open(5)
    assert read(listings, handle, 0, listing) == [b"a", b"b"]
    listing.made(b"c", UPPER, is_dir=False)
    listing.removed(b"b", shadowed=False)
    assert read(listings, handle, 3, listing) == []
    assert read(listings, handle, 0, listing) == [b"a", b"c"]


def test_a_client_that_has_read_half_elsewhere_misses_nothing() -> None:
    """The kernel keeps listings; where it drops one, a client asks with a cookie that this handle has never given."""
    listings, listing = Listings(), of(b"a", b"b", b"c", b"d")
    listing.keep_order()
    first, second = listings.open(5), listings.open(5)
    assert [cookie for cookie, _ in listings[first].since(0, listing)] == [3, 4, 5, 6]
    listing.removed(b"a", shadowed=False)
    assert read(listings, second, 4, listing) == [b"c", b"d"]


def test_a_closed_handle_is_unknown_and_closing_twice_is_nothing() -> None:
    listings = Listings()
    handle = listings.open(5)
    listings.close(handle)
    listings.close(handle)
    with pytest.raises(KeyError):
        listings[handle]
    assert listings.open(5) != handle


def test_a_handle_that_a_lane_gave_says_which_directory_it_is_of() -> None:
    listings, listing = Listings(), of(b"a", b"b")
    assert [read(listings, 7 | BY_NUMBER, cookie, listing) for cookie in (0, 3)] == [[b"a", b"b"], [b"b"]]
    listing.made(b"c", UPPER, is_dir=False)
    assert read(listings, 7 | BY_NUMBER, 4, listing) == []
    for number in range(8, 8 + KEPT):
        assert listings[number | BY_NUMBER].ino == number
    assert listings[7 | BY_NUMBER].end is None, "more were kept than that"
