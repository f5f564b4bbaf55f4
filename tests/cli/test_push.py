"""`layerfs push`."""

from tests.cli.images import Shop, interrupt
from tests.oci.registries import Naughty, Stall
from tests.xar.packages import real


def test_push_under_another_name(shop: Shop) -> None:
    name = shop.imported()
    with Naughty().running() as registry:
        said = shop.run("push", "--insecure", name, f"{registry.host}/repo:2").stdout
        assert said.startswith(f"{registry.host}/repo:2 sha256:")
        assert "2" in registry.manifests
    assert shop.run("push", name, check=False).returncode == 1


def test_xar_travels_with_what_it_depends_on(shop: Shop) -> None:
    place = shop.place / "xars"
    place.mkdir()
    top = real(place, "top", {"own": "1"}, ["base"])
    base = real(place, "base", {"lib": "2"})
    with Naughty().running() as registry:
        name = f"{registry.host}/repo:1"
        shop.run("push", "--insecure", top, name)
        other = shop.place / "other"
        said = shop.run("pull", "--insecure", "--root", other, name, "-o", shop.place / "out").stdout
        assert [line.rpartition("/")[2] for line in said.splitlines()[1:]] == [top.name, base.name]
    assert (shop.place / "out" / top.name).read_bytes() == top.read_bytes()
    assert shop.run("xar", "graph", shop.place / "out" / top.name).returncode == 0


def test_interrupted_push_ends_at_once_and_the_next_one_sends_all(shop: Shop) -> None:
    """Ctrl-C waited for the blobs in flight."""
    name = shop.imported()
    with Naughty().running() as registry, Stall(registry, "PATCH", "uploads") as stall:
        to = f"{registry.host}/repo:2"
        status, took = interrupt(shop, "push", "--insecure", name, to, when=stall.begun.is_set)
        assert (status, took < 30, "2" in registry.manifests) == (130, True, False)
        stall.__exit__()
        shop.run("push", "--insecure", name, to)
        assert "2" in registry.manifests
