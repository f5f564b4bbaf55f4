"""Open directories: each handle reads the names as they were at its last rewind."""

import pytest

from layerfs.fuse.listings import Listings


def test_a_handle_keeps_its_names_until_it_is_rewound() -> None:
    listings, names = Listings(), [b"a", b"b"]
    first, second = listings.open(5), listings.open(5)
    assert listings.rewind(first, lambda _: list(names)) == [b"a", b"b"]
    names.append(b"c")
    assert listings.rewind(second, lambda _: list(names)) == [b"a", b"b", b"c"]
    assert listings[first].names == [b"a", b"b"]
    assert listings.rewind(first, lambda _: list(names)) == [b"a", b"b", b"c"]


def test_a_closed_handle_is_unknown_and_closing_twice_is_nothing() -> None:
    listings = Listings()
    handle = listings.open(5)
    listings.close(handle)
    listings.close(handle)
    with pytest.raises(KeyError):
        listings[handle]
    assert listings.open(5) != handle
