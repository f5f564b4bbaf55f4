"""Sources in the words of a person."""

from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument, WrongUsage
from layerfs.plan.sources import SourceSpec, opened, parse_words
from layerfs.plan.tree import UNOWNED
from layerfs.xar.search import Search
from tests.plan.scenes import opened_source
from tests.plan.trees import make_house, words_of
from tests.xar.packages import DIAMOND, reals


def test_words_name_absolute_places() -> None:
    assert parse_words(["dpkg:root"], None, b"/here") == SourceSpec("dpkg", "/here/root")
    assert parse_words(["xar:a.xar", "xar:b.xar", "/c.xar"], None, b"/h") == SourceSpec(
        "xar", "/h/a.xar", ("/h/b.xar", "/c.xar")
    )
    assert parse_words(["dot:g"], "out", b"/h") == SourceSpec("dot", "/h/g", (), "/h/out")
    assert parse_words(["oci:host/name:1"], None, b"/h") == SourceSpec("oci", "host/name:1")
    assert parse_words(["a:b.json"], None, b"/h") == SourceSpec("json", "/h/a:b.json")


@pytest.mark.parametrize(
    ("words", "sizes", "said"),
    [
        (["a", "b"], None, "b is a source too many"),
        (["dpkg:"], None, "dpkg: names nothing"),
        (["dot:g"], None, "--sizes belongs to dot"),
        (["a"], "x", "--sizes belongs to dot"),
    ],
)
def test_wrong_words_are_refused(words: list[str], sizes: str | None, said: str) -> None:
    with pytest.raises(WrongUsage, match=said):
        parse_words(words, sizes, b"/")


def test_sizes_are_those_of_the_files_and_the_rest_is_a_module(scratch: Path) -> None:
    with opened_source(words_of(make_house(scratch))) as source:
        sizes = {module.name: (module.size, module.files, module.chance) for module in source.graph.modules}
    assert sizes["lib"][:2] == (70_000, 3)
    assert sizes["words"] == (5, 1, 0.1)
    assert sizes[UNOWNED] == (8 + 64 * 9, 1, 1.0)


def test_xars_own_what_the_topmost_shows(scratch: Path) -> None:
    place = reals(scratch / "x", DIAMOND)
    with opened_source(SourceSpec("xar", str(place / "a.xar"))) as source:
        assert source.tree is not None
        assert source.tree.owners == {b"same": "a.xar", b"which": "a.xar"} | {
            f"lib/{name}".encode(): f"{name}.xar" for name in DIAMOND
        }


def test_an_image_without_layers_is_refused() -> None:
    with (
        pytest.raises(InvalidArgument, match="oci:none has no layers"),
        opened(SourceSpec("oci", "none"), lambda reference: [], lambda: Search([])),
    ):
        pass
