"""`layerfs cp`, and a build in two stages."""

import os
import subprocess

import pytest

from layerfs.snapshots.library import open_store
from tests.cli.images import Shop
from tests.host import require

PROGRAM = '#include <stdio.h>\nint main(void) { puts("built"); return 0; }\n'


def test_copy_from_an_image(shop: Shop) -> None:
    name = shop.imported()
    shop.run("snapshot", "prepare", "--snapshotter", "overlay", "work")
    assert shop.run("cp", "--snapshotter", "overlay", f"{name}:/etc", "work:/").returncode == 0
    with open_store(shop.place / "store") as store:
        own = os.fsdecode(store.snapshotter("overlay").layer("work").path)
    assert sorted(os.listdir(own + "/etc")) == ["group", "motd", "passwd"]


@pytest.mark.parametrize("words", [("work", "x:/y"), ("x:/y", "work"), (":/x", "y:/z")])
def test_wrong_places_are_wrong_usage(words: tuple[str, str], shop: Shop) -> None:
    assert shop.run("cp", *words, check=False).returncode == 2


def test_build_in_two_stages(shop: Shop) -> None:
    """A compiler's stage gives one binary to a small image, which holds nothing else of it, and which podman runs."""
    require("gcc", "podman")
    shop.run("snapshot", "prepare", "--snapshotter", "overlay", "compile")
    with open_store(shop.place / "store") as store:
        stage = os.fsdecode(store.snapshotter("overlay").layer("compile").path)
    os.mkdir(stage + "/src")
    with open(stage + "/src/hello.c", "w") as out:
        out.write(PROGRAM)
    # The compiler is the host's: what a stage with one of its own would hold besides must not be in the result either.
    subprocess.run(["gcc", "-static", "-o", stage + "/src/hello", stage + "/src/hello.c"], check=True)
    shop.run("snapshot", "prepare", "--snapshotter", "overlay", "final")
    shop.run("cp", "--snapshotter", "overlay", "compile:/src/hello", "final:/hello")
    shop.run("image", "commit", "--snapshotter", "overlay", "final", "localhost/built:1", "-c", 'Cmd=["/hello"]')
    assert shop.run("image", "run", "localhost/built:1").stdout == "built\n"
    shop.run("image", "export", "localhost/built:1", "-o", shop.place / "out")
    subprocess.run(["skopeo", "copy", "-q", f"oci-archive:{shop.place}/out", f"dir:{shop.place}/dir"], check=True)
    layers = [path for path in (shop.place / "dir").iterdir() if path.read_bytes()[:2] == b"\x1f\x8b"]
    listed = subprocess.run(["tar", "-tzf", layers[0]], capture_output=True, text=True, check=True).stdout.split()
    assert (len(layers), listed) == (1, ["hello"])
    podman = ["podman", "--root", str(shop.place / "p"), "--runroot", str(shop.place / "r"), "--storage-driver", "vfs"]
    podman += ["--cgroup-manager=cgroupfs", "--runtime=runc"]
    subprocess.run([*podman, "load", "-q", "-i", shop.place / "out"], check=True, capture_output=True)
    limits = ["--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"]
    words = ["run", "--rm", *limits, "localhost/built:1"]
    done = subprocess.run([*podman, *words], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("built\n", 0), done.stderr
