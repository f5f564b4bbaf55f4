"""Names of the images of a source."""

import pytest

from layerfs.errors import InvalidArgument
from layerfs.oci.digest import EMPTY
from layerfs.oci.documents import Descriptor
from layerfs.oci.naming import name_roots
from layerfs.oci.sources import SourceImage

TOP = Descriptor("x", EMPTY, 0)


def names(
    roots: list[tuple[str, ...]], path: bytes = b"/d/Pic.tar", wanted: str | None = None
) -> list[tuple[str, ...]]:
    return [found for found, _ in name_roots([SourceImage(each, TOP) for each in roots], path, wanted)]


def test_full_names_tags_and_none() -> None:
    assert names([("h.x/a:1", "a:1"), ("v2",), ()]) == [("h.x/a:1", "a:1"), ("pic:v2",), ()]
    assert names([("a:1",)], wanted="b") == [("b:latest",)]
    assert names([("a:1",), ("b:1",)], wanted="b:1") == [("b:1",)]


@pytest.mark.parametrize(
    ("roots", "wanted"),
    [([], None), ([("a:1",), ("a:1",)], None), ([("a:1",), ("a:1",)], "a:1"), ([("a:1",), ("b:1",)], "c")],
)
def test_what_is_not_clear_is_asked_back(roots: list[tuple[str, ...]], wanted: str | None) -> None:
    with pytest.raises(InvalidArgument):
        names(roots, wanted=wanted)
