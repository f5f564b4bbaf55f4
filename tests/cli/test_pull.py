"""`layerfs pull`, and images that are pulled because they are wanted."""

from tests.cli.images import Shop, made
from tests.oci.registries import Naughty


def test_pull_and_run_by_name(shop: Shop) -> None:
    image = made()
    top = image.finish()
    with Naughty().running() as registry:
        registry.store(image.blobs, "1", top)
        name = f"{registry.host}/repo:1"
        assert shop.run("pull", "--insecure", name).stdout == f"{name} {top['digest']}\n"
        assert shop.run("run", name, "--", "/bin/cat", "/etc/motd").stdout == "hello\n"
        shop.run("image", "rm", name)
        assert shop.run("image", "run", "--insecure", name).stdout == "hello\n"
        assert shop.run("pull", "--insecure", f"{registry.host}/repo:no", check=False).returncode == 1
