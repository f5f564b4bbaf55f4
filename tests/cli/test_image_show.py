"""`layerfs image ls`, `inspect`, `history`, `verify`."""

import json

from tests.cli.images import Shop


def test_list_inspect_history(shop: Shop) -> None:
    name = shop.imported()
    (row,) = shop.json("image", "ls", "--json")
    assert (row["name"], row["platform"].split("/")[0]) == (name, "linux")
    assert row["digest"][7:19] in shop.run("image", "ls").stdout
    shown = shop.json("image", "inspect", name)
    assert shown["config"]["config"]["Cmd"] == ["/bin/cat", "/etc/motd"]
    assert len(shown["snapshots"]) == 2
    steps = shop.json("image", "history", name, "--json")
    assert [step["created_by"] for step in steps] == ["one", "nothing", ""]
    assert [bool(step["layer"]) for step in steps] == [True, False, True]


def test_verify_finds_a_changed_byte(shop: Shop) -> None:
    name = shop.imported()
    assert "all digests are right" in shop.run("image", "verify", name).stdout
    digest = shop.json("image", "inspect", name)["manifest"]["layers"][1]["digest"]
    blobs = [path for path in (shop.place / "store/content").rglob("blob") if path.is_file()]
    blob = next(path for path in blobs if digest[7:] in str(path))
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    done = shop.run("image", "verify", name, "--json", check=False)
    assert done.returncode == 1
    assert [found["blob"] for found in json.loads(done.stdout)] == [digest]


def test_image_that_is_not_there_is_one_line(shop: Shop) -> None:
    for verb in ("inspect", "history", "verify"):
        done = shop.run("image", verb, "nothing", check=False)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
