"""`layerfs image import` and `export`, and what other programs make of the result."""

import gzip
import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.images import Shop, made
from tests.host import require
from tests.oci.image import Made
from tests.oci.tars import END, file


def layers_of(path: str) -> list[str]:
    """The DiffIDs that skopeo reads."""
    require("skopeo")
    said = subprocess.run(["skopeo", "inspect", "--config", path], capture_output=True, check=True).stdout
    found: list[str] = json.loads(said)["rootfs"]["diff_ids"]
    return found


@pytest.mark.parametrize(
    ("format_", "transport"), [("oci", "oci-archive"), ("oci-dir", "oci"), ("docker", "docker-archive")]
)
def test_round_trip_keeps_the_layers(format_: str, transport: str, shop: Shop) -> None:
    name = shop.imported("localhost/made:1")
    output = shop.place / "out"
    shop.run("image", "export", name, "-o", output, "--format", format_)
    wanted = made().config["rootfs"]["diff_ids"]
    assert layers_of(f"{transport}:{output}") == wanted
    shop.run("image", "rm", name)
    assert name in shop.run("image", "import", output).stdout
    assert shop.json("image", "inspect", name)["config"]["rootfs"]["diff_ids"] == wanted


def test_what_skopeo_writes_is_taken(shop: Shop) -> None:
    require("skopeo")
    layout = made().layout(shop.place / "i")
    for kind in ("docker-archive", "oci-archive"):
        target = f"{kind}:{shop.place}/{kind}:localhost/{kind}:1"
        subprocess.run(["skopeo", "copy", "-q", f"oci:{layout}", target], check=True)
        assert f"localhost/{kind}:1" in shop.run("image", "import", shop.place / kind).stdout


def test_podman_takes_and_runs_an_export(shop: Shop) -> None:
    require("podman")
    name = shop.imported("localhost/made:1")
    shop.run("image", "export", name, "-o", shop.place / "out")
    podman: list[str | Path] = [
        "podman",
        "--root",
        shop.place / "p",
        "--runroot",
        shop.place / "r",
        "--storage-driver",
        "vfs",
    ]
    subprocess.run([*podman, "load", "-q", "-i", shop.place / "out"], check=True, capture_output=True)
    images = subprocess.run(
        [*podman, "images", "--format", "{{.Repository}}"], check=True, capture_output=True, text=True
    )
    assert "localhost/made" in images.stdout


def test_archive_through_pipes(shop: Shop) -> None:
    name = shop.imported("localhost/made:1")
    out = shop.place / "out"
    shop.run("image", "export", name, "-o", out)
    shop.run("image", "rm", name)
    with out.open("rb") as stream:
        assert name in shop.run("image", "import", "-", stdin=stream).stdout


def test_names_come_from_the_image_or_the_caller(shop: Shop) -> None:
    image = made()
    layout = image.layout(shop.place / "pic", image.finish(annotations={"org.opencontainers.image.ref.name": "v1"}))
    assert shop.run("image", "import", layout).stdout.startswith("pic:v1 sha256:")
    assert shop.run("image", "import", layout, "mine:2").stdout.startswith("mine:2 sha256:")


def test_what_is_no_image_is_one_line(shop: Shop, scratch: Path) -> None:
    (scratch / "x").write_bytes(b"x" * 5000)
    for path in (scratch / "x", scratch / "nothing", scratch, "/dev/null"):
        done = shop.run("image", "import", path, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("layerfs: ") and done.stderr.count("\n") == 1


def test_a_bomb_ends_at_the_size_that_is_allowed(shop: Shop) -> None:
    layer = file(b"zeros", bytes(30_000_000)) + END
    image = Made([layer], packed=[gzip.compress(layer)])
    layout = image.layout(shop.place / "bomb")
    done = shop.run("image", "import", "--max-size", "10M", layout, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "more than 10485760 bytes (hint: if that is right, allow more: --max-size)" in done.stderr
    assert shop.json("image", "ls", "--json") == []
    assert shop.json("snapshot", "ls", "--json") == []
    assert shop.run("image", "import", "--max-size", "many", layout, check=False).returncode == 1
    shop.run("image", "import", "--max-size", "40M", layout)
