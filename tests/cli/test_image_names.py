"""`layerfs image rm` and `tag`."""

from tests.cli.images import Shop


def test_names_are_given_and_taken(shop: Shop) -> None:
    name = shop.imported()
    assert shop.run("image", "tag", name, "other").stdout == "other:latest\n"
    shop.run("image", "rm", name)
    assert [row["name"] for row in shop.json("image", "ls", "--json")] == ["other:latest"]
    assert shop.run("image", "rm", name, check=False).returncode == 1
    shop.run("image", "rm", "other")
    assert shop.run("image", "ls").stdout == "no images\n"
