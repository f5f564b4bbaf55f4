"""`layerfs pack`: what comes out is mounted, imported, sent, and is the tree that went in."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from layerfs.plan.layout import KEPT
from tests.cli.conftest import Place
from tests.cli.images import Shop, made
from tests.host import require
from tests.oci.registries import Naughty
from tests.oci.tars import END, directory, file
from tests.plan.trees import make_house, seen

CHAIN = {"A.py": ["B.py", "C.py"], "B.py": ["D.so"], "C.py": ["E.so"], "D.so": ["F.so"], "E.so": ["F.so"], "F.so": []}


@pytest.fixture
def house(scratch: Path) -> Place:
    """A tree, and a plan of four layers for it."""
    require("root", "fuse")
    make_house(scratch)
    place = Place(scratch)
    (scratch / "mnt").mkdir()
    place.do("plan", "graph.json", "-k", "4", "--layer-price", "0", "-o", "plan.json")
    return place


def mounted(place: Place, *words: str | Path) -> Iterator[None]:
    place.do("mount", "-q", *words, "mnt")
    try:
        yield
    finally:
        place.do("umount", "mnt")


@pytest.mark.mounts
@pytest.mark.parametrize("driver", ["fuse", "kernel"])
def test_the_mounted_layers_are_the_tree(house: Place, driver: str) -> None:
    text = house.do("pack", "plan.json", "-o", "out", "--level", "1")
    assert text.splitlines()[-1].startswith("built 4 of 4 layers, ")
    top = json.loads((house.base / "out/pack.json").read_text())["layers"][-1]["file"]
    for _ in mounted(house, f"out/{top}", f"--driver={driver}"):
        assert seen(house.mnt) == seen(house.base / "src")


@pytest.mark.mounts
def test_bare_images_are_stacked_by_hand(house: Place) -> None:
    shown = json.loads(house.do("pack", "plan.json", "-o", "out", "--format", "squashfs", "--level", "1", "--json"))
    files = [house.base / "out" / layer["file"] for layer in reversed(shown["layers"])]
    for _ in mounted(house, *files):
        assert seen(house.mnt) == seen(house.base / "src")


@pytest.mark.mounts
def test_the_cache_alone_is_enough_to_mount(house: Place) -> None:
    env = {"LAYERFS_CACHE": str(house.base / "cache")}
    first = json.loads(house.do("pack", "plan.json", "--cache", "--level", "1", "--json", env=env))
    assert (first["cache_reused_bytes"], first["cache_new_bytes"]) == (0, first["built_bytes"])
    (house.base / "src/share/words").write_text("WORDS")
    text = house.do("pack", "plan.json", "--cache", "--level", "1", env=env)
    assert "built 1 of 4 layers" in text
    assert "from the cache" in text
    top = json.loads(house.do("cache", "ls", "--json", env=env))
    path = next(entry["path"] for entry in top if entry["depends"])
    house.do("mount", "-q", path, "mnt", env=env)
    try:
        assert seen(house.mnt) == seen(house.base / "src")
    finally:
        house.do("umount", "mnt")


@pytest.mark.mounts
@pytest.mark.parametrize("snapshotter", ["overlay", "xar"])
def test_a_snapshotter_takes_the_image(shop: Shop, snapshotter: str) -> None:
    make_house(shop.place)
    plan = shop.place / "plan.json"
    shop.run("plan", shop.place / "graph.json", "-k", "4", "--layer-price", "0", "-o", plan)
    shop.run("pack", plan, "-o", shop.place / "out", "--format", "oci", "--name", "house:1")
    shop.run("image", "import", "--snapshotter", snapshotter, shop.place / "out")
    mnt = shop.place / "mnt"
    mnt.mkdir()
    shop.run("image", "mount", "--snapshotter", snapshotter, "house:1", mnt)
    try:
        assert seen(mnt) == seen(shop.place / "src")
    finally:
        subprocess.run(["umount", mnt], check=True)


def test_an_image_that_is_packed_again_runs_the_same_command(shop: Shop) -> None:
    """It had no Cmd and no Env."""
    config = {
        "Cmd": ["/bin/sh", "-c", "echo $WORD; pwd; id"],
        "Env": ["WORD=hello"],
        "WorkingDir": "/etc",
        "User": "me",
    }
    image = made(**config)
    # Nothing of it is known to dpkg: there is only what installing made.
    image.layers.append(directory(b"var/lib/dpkg/info") + file(b"var/lib/dpkg/status", b"") + END)
    image.config["rootfs"]["diff_ids"].append(image.add(image.layers[-1]))
    image.config |= {"author": "somebody", "variant": "v8"}
    top = image.finish(annotations={"org.opencontainers.image.ref.name": "made:1"})
    shop.run("image", "import", image.layout(shop.place / "made", top))
    shop.run("plan", "oci:made:1", "-k", "3", "-o", shop.place / "plan.json")
    shop.run("pack", shop.place / "plan.json", "-o", shop.place / "out", "--format", "oci", "--name", "again:1")
    shop.run("image", "import", shop.place / "out")
    said = shop.run("image", "run", "made:1").stdout
    assert said.startswith("hello\n/etc\nuid=7(me)")
    assert shop.run("image", "run", "again:1").stdout == said
    before, after = (shop.json("image", "inspect", name)["config"] for name in ("made:1", "again:1"))
    assert {key: after[key] for key in KEPT if key in after} == {key: before[key] for key in KEPT if key in before}


def write_chain(place: Path, build: int) -> None:
    """A.py -> B.py -> D.so, A.py -> C.py -> E.so, both -> F.so; D.so is another one in each build."""
    (place / "src").mkdir(exist_ok=True)
    for name in CHAIN:
        path = place / "src" / name
        content = (f"{name} {build if name == 'D.so' else 0} " * 999)[:5000]
        if not path.exists() or path.read_text() != content:
            path.write_text(content)
    modules = [{"name": n, "paths": [n], "depends": d, "rebuilds": False} for n, d in CHAIN.items()]
    (place / "graph.json").write_text(json.dumps({"name": "chain", "root": "src", "modules": modules}))


@pytest.mark.parametrize("form", ["xar", "oci"])
def test_one_changed_module_moves_its_layer_alone(shop: Shop, form: str) -> None:
    """Build, push, pull; change D.so, build with --previous, push and pull again."""
    place, node = shop.place, shop.place / "node"
    sent: list[set[str]] = []
    fetched: list[set[str]] = []
    layers: list[dict[str, Any]] = []
    with Naughty().running() as registry:
        reference = f"{registry.host}/repo:1"
        for build in (1, 2):
            write_chain(place, build)
            again: list[str | Path] = ["--previous", place / "plan1.json"] if build == 2 else []
            plan, out = place / f"plan{build}.json", place / f"out{build}"
            shop.run("plan", place / "graph.json", "-k", "7", "--layer-price", "0", *again, "-o", plan)
            before: list[str | Path] = ["--previous", place / "out1"] if build == 2 else []
            words = ["--format", form, "--name", reference if form == "oci" else "chain", "--json"]
            shown = shop.json("pack", plan, "-o", out, *before, *words)
            layers.append({layer["file"]: layer for layer in shown["layers"]})
            there = set(registry.blobs)
            if form == "oci":
                shop.run("image", "import", "--no-unpack", out)
                shop.run("push", "--insecure", reference)
            else:
                shop.run("push", "--insecure", out / shown["layers"][-1]["file"], reference)
            sent.append({name[7:] for name in set(registry.blobs) - there})
            asked = len(registry.seen)
            shop.run("pull", "--insecure", "--no-unpack", "--root", node, reference)
            got = [path for verb, path, _ in registry.seen[asked:] if verb == "GET"]
            fetched.append({path.rpartition("/blobs/sha256:")[2] for path in got})
    assert sum(layer["origin"] == "built" for layer in layers[1].values()) == 1
    names = [{layer["sha256"] for layer in build.values()} for build in layers]
    changed = names[1] - names[0]
    assert len(changed) == 1
    assert sent[1] & (names[0] | names[1]) == changed
    assert fetched[1] & (names[0] | names[1]) == changed


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["plan.json"], 2, "it is not said where the layers go"),
        (["plan.json", "--cache", "--format", "oci"], 2, "the package cache takes XARs only"),
        (["plan.json", "-o", "out", "--name", "a b"], 2, "layers cannot be called 'a b'"),
        (["plan.json", "-o", "out", "--level", "0"], 2, "--level is 0"),
        (["graph.json", "-o", "out"], 1, "graph.json is no plan"),
        (["absent.json", "-o", "out"], 1, "absent.json: No such file"),
        (["plan.json", "-o", "out", "--previous", "src"], 1, "src has no pack.json"),
        (["plan.json", "-o", "src"], 1, "src is there, and is no empty directory"),
    ],
)
def test_wrong_input_is_refused_by_name(house: Place, words: list[str], status: int, said: str) -> None:
    done = house.run("pack", *words)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(f"layerfs: {said}")


def test_a_tree_that_changed_is_refused(house: Place) -> None:
    graph = json.loads((house.base / "graph.json").read_text())
    graph["modules"][0]["version"] = "2"
    (house.base / "graph.json").write_text(json.dumps(graph))
    done = house.run("pack", "plan.json", "-o", "out")
    assert done.returncode == 1
    assert "app has the version 2 in house, but 1 in plan.json (hint: plan again: layerfs plan" in done.stderr
