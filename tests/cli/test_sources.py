"""Images as sources, opened from a store."""

from tests.cli.images import Shop
from tests.oci.image import Made
from tests.oci.tars import END, file

STATUS = (
    b"Package: a\nStatus: install ok installed\nVersion: 1\n\nPackage: b\nStatus: install ok installed\nDepends: a\n"
)


def test_the_packages_of_an_image_are_planned_and_packed(shop: Shop) -> None:
    base = (
        file(b"var/lib/dpkg/status", STATUS) + file(b"var/lib/dpkg/info/a.list", b"/a\n/gone\n") + file(b"gone", b"x")
    )
    own = file(b"var/lib/dpkg/info/b.list", b"/b\n") + file(b"a", b"1234") + file(b"b", b"12") + file(b".wh.gone")
    image = Made([base + END, own + END])
    image.layout(shop.place / "layout", image.finish(annotations={"org.opencontainers.image.ref.name": "made:1"}))
    shop.run("image", "import", shop.place / "layout")
    plan = shop.place / "plan.json"
    shown = shop.json("plan", "oci:made:1", "-k", "3", "--layer-price", "0", "--json", "-o", plan)
    sizes = {m["name"]: m["bytes"] for layer in shown["layers"] for m in layer["modules"]}
    assert (sizes["a"], sizes["b"]) == (4, 2)
    shop.run("pack", plan, "-o", shop.place / "out", "--format", "oci", "--name", "again:1")
    shop.run("image", "import", shop.place / "out")
    assert "again:1" in shop.run("image", "ls").stdout
    assert shop.run("plan", "oci:none:1", "-k", "3", check=False).returncode == 1
