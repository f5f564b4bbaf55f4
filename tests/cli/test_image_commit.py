"""`layerfs image commit`."""

import os

from layerfs.snapshots.library import open_store
from tests.cli.images import Shop


def test_snapshot_becomes_an_image_that_runs(shop: Shop) -> None:
    name = shop.imported()
    parent = shop.json("image", "inspect", name)["snapshots"][-1].partition("/")[2]
    with open_store(shop.place / "store") as store:
        snapshots = store.snapshotter("overlay")
        snapshots.prepare("work", parent)
        own = os.fsdecode(snapshots.layer("work").path)
        os.mkdir(own + "/etc", 0o755)
        with open(own + "/etc/motd", "w") as out:
            out.write("changed\n")
    shop.run(
        "image",
        "commit",
        "--snapshotter",
        "overlay",
        "work",
        "new:1",
        "-m",
        "why",
        "-c",
        'Cmd=["/bin/cat", "/etc/motd"]',
    )
    assert shop.run("image", "run", "new:1").stdout == "changed\n"
    shown = shop.json("image", "inspect", "new:1")
    assert len(shown["config"]["rootfs"]["diff_ids"]) == 3
    assert shown["config"]["history"][-1]["comment"] == "why"
    assert shop.run("image", "commit", "work", "new:2", "-c", "Bad=1", check=False).returncode == 1
    shop.run("image", "rm", name)
    assert shop.run("image", "run", "new:1").stdout == "changed\n"
