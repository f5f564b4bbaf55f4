"""`layerfs pull`, and images that are pulled because they are wanted."""

import os

from tests.cli.images import Shop, interrupt, made
from tests.oci.registries import Naughty, Stall
from tests.oci.tars import END, file


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


def test_interrupted_pull_ends_at_once_and_the_next_one_goes_on(shop: Shop) -> None:
    """Ctrl-C waited for the blobs in flight: here for the minute after which a silent registry is given up."""
    image = made()
    image.layers.append(file(b"big", os.urandom(3_000_000)) + END)
    image.config["rootfs"]["diff_ids"].append(image.add(image.layers[-1]))
    top = image.finish()
    slow = image.add(image.layers[-1])
    small = image.add(image.layers[1])
    with Naughty().running() as registry, Stall(registry, "GET", slow) as stall:
        registry.store(image.blobs, "1", top)
        name = f"{registry.host}/repo:1"
        stored = shop.place / "store/content/packages/blob" / small[7:]
        status, took = interrupt(
            shop, "pull", "--insecure", name, when=lambda: stall.begun.is_set() and stored.exists()
        )
        assert (status, took < 30) == (130, True)
        assert shop.json("image", "ls", "--json") == []
        assert "nothing is wrong" in shop.run("store", "check").stdout
        stall.__exit__()
        registry.seen.clear()
        shop.run("pull", "--insecure", name)
        asked = [path.rpartition("/")[2] for _, path, _ in registry.seen if "/blobs/" in path]
        assert (slow in asked, small in asked) == (True, False)  # what came whole was kept
        assert shop.run("run", name, "--", "/bin/cat", "/etc/motd").stdout == "hello\n"
