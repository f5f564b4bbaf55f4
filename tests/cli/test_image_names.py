"""`layerfs image rm` and `tag`."""

from layerfs.cli.image import quick
from tests.cli.images import Shop


def test_names_are_given_and_taken(shop: Shop) -> None:
    name = shop.imported()
    assert shop.run("image", "tag", name, "other").stdout == "other:latest\n"
    shop.run("image", "rm", name)
    assert [row["name"] for row in shop.json("image", "ls", "--json")] == ["other:latest"]
    assert shop.run("image", "rm", name, check=False).returncode == 1
    shop.run("image", "rm", "other")
    assert shop.run("image", "ls").stdout == "no images\n"


def test_well_formed_lines_need_no_argparse() -> None:
    """argparse took a tenth of the time in which an image is removed."""
    assert vars(quick(["rm", "a", "b", "--root", "r"]) or object) == {"part": "rm", "images": ["a", "b"], "root": "r"}
    assert vars(quick(["tag", "a", "b"]) or object) == {"part": "tag", "image": "a", "name": "b", "root": None}
    assert [quick(words) for words in ([], ["ls"], ["rm"], ["tag", "a"], ["rm", "--help"])] == [None] * 5
