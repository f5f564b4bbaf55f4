"""Images among layers."""

from tests.cli.images import Shop


def test_image_is_a_layer_of_a_mount(shop: Shop) -> None:
    name = shop.imported()
    point, top = shop.place / "m", shop.place / "top"
    for path in (point, top):
        path.mkdir()
    (top / "own").write_text("mine")
    shop.run("mount", top, name, point)
    try:
        assert (point / "etc/motd").read_text() == "hello\n"
        assert (point / "own").read_text() == "mine"
    finally:
        shop.run("umount", point)


def test_path_that_is_not_there_is_said_to_be_none(shop: Shop) -> None:
    for layer in ("./nothing", "nothing", "/no/thing"):
        done = shop.run("mount", layer, shop.place, check=False)
        assert done.returncode != 0
        assert layer.strip("./") in done.stderr
