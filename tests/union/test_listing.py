"""One directory's listing: every edit, and what it then says about the lowers."""

import pytest

from layerfs.union.layers import DirTree, Part
from layerfs.union.listing import Listing, Whiteout, holder, is_upper_only


@pytest.fixture
def shares() -> tuple[Part, Part]:
    """A directory's share in the upper and in a lower."""
    found = []
    for index in (0, 1):
        tree = DirTree.__new__(DirTree)
        tree.index = index
        found.append(Part(tree, None, b""))
    return found[0], found[1]


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
    assert (dict(listing.names), dict(listing.whiteouts)) == ({b"dir": (upper,)}, {})
    assert not listing.needs_whiteout(b"dir")
