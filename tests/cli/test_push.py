"""`layerfs push`."""

from tests.cli.images import Shop
from tests.oci.registries import Naughty


def test_push_under_another_name(shop: Shop) -> None:
    name = shop.imported()
    with Naughty().running() as registry:
        said = shop.run("push", "--insecure", name, f"{registry.host}/repo:2").stdout
        assert said.startswith(f"{registry.host}/repo:2 sha256:")
        assert "2" in registry.manifests
    assert shop.run("push", name, check=False).returncode == 1
