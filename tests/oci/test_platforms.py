"""Platforms: the closest one is chosen, and attestations never."""

import pytest

from layerfs.errors import NotFound
from layerfs.oci.digest import EMPTY
from layerfs.oci.documents import Descriptor, Platform
from layerfs.oci.platforms import choose, parse_platform


def entry(platform: str | None, **annotations: str) -> Descriptor:
    return Descriptor("x", EMPTY, 0, None if platform is None else Platform(*platform.split("/")), annotations)


@pytest.mark.parametrize(
    ("offered", "wanted", "chosen"),
    [
        (["linux/arm64", "linux/amd64"], "linux/amd64", 1), (["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7", 1),
        (["linux/arm/v6"], "linux/arm/v7", 0), (["unknown/unknown", "linux/amd64"], "linux/amd64", 1),
        (["linux/amd64", "linux/amd64"], "linux/amd64", 0), ([None], "linux/amd64", 0), (["linux/arm64"],
        "linux/arm64/v8", 0),
    ],
)  # fmt: skip
def test_closest_platform_is_chosen(offered: list[str | None], wanted: str, chosen: int) -> None:
    entries = [entry(each) for each in offered]
    assert choose(entries, parse_platform(wanted)) is entries[chosen]


@pytest.mark.parametrize("offered", [["unknown/unknown"], ["linux/arm/v7"], ["windows/amd64"], []])
def test_nothing_that_fits_is_an_error(offered: list[str]) -> None:
    with pytest.raises(NotFound):
        choose([entry(each) for each in offered], parse_platform("linux/arm/v6"))
