"""Debian's containerd with layerfs as its snapshotter: images, containers under runc, kills, nothing left behind."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cli.test_program import STANDBY, parent
from tests.cli.test_program import name as name_of
from tests.conftest import mounts_below
from tests.e2e import cri
from tests.e2e.containerd import IMAGE, Containerd, a_containerd, archive, packed_digests
from tests.host import BIN
from tests.oci.registries import docker_registry
from tests.waiting import wait_until

NEEDS = ("root", "fuse", "containerd", "ctr", "runc", "docker-registry", "mkfs.btrfs")


@pytest.fixture
def containerd(snapshotter: str, scratch: Path) -> Iterator[Containerd]:
    """A containerd over each driver, which has the image."""
    with a_containerd(scratch, snapshotter) as made:
        made.ctr("images", "import", "--snapshotter", made.snapshotter, archive(scratch / "image.tar"))
        yield made
        remove_all(made)


def remove_all(containerd: Containerd) -> None:
    """Remove the image; containerd's collector, and ours, leave nothing behind."""
    for name in containerd.ctr("containers", "list", "--quiet").split():
        containerd.delete(name)
    for name in containerd.ctr("images", "list", "--quiet").split():
        containerd.ctr("images", "remove", "--sync", name)
    wait_until(lambda: containerd.snapshots() == [])
    wait_until(lambda: containerd.directories() == [])
    assert mounts_below(containerd.place / "state") == []


def test_containers_run_write_and_go(containerd: Containerd) -> None:
    script = "cat /d/a /l7/f; ls /etc; mv /d/a /d/b; rm -r /l3; ls /d /l3 2>/dev/null || true"
    shown = containerd.run("one", "/bin/sh", "-euc", script)
    assert shown.split() == ["a7two", "/d:", "b"]
    again = containerd.run("two", "/bin/sh", "-euc", "ls /d /l3")
    assert again.split() == ["/d:", "a", "/l3:", "f"]


def test_a_container_outlives_every_kill(containerd: Containerd) -> None:
    containerd.run("lasting", "/bin/sleep", "1000", detached=True)
    containerd.exec("lasting", "echo one >/new; rm /d/a")
    containerd.daemon.kill()
    assert containerd.exec("lasting", "cat /new; echo two >>/new; ls /d") == "one\n"
    containerd.kill()
    containerd.daemon.start()
    containerd.start()
    assert containerd.exec("lasting", "cat /new") == "one\ntwo\n"
    assert len(containerd.snapshots()) == 11
    containerd.run("after", "/bin/true")


@pytest.mark.parametrize("snapshotter", ["fuse"], indirect=True)
def test_a_containers_server_comes_from_who_stands_by_and_outlives_all(
    containerd: Containerd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon starts none: the shim calls layerfs-mount, which leaves a process that stands by for the next shim."""
    for environment in (os.environ, containerd.environment):
        monkeypatch.delitem(environment, "LAYERFS_STANDBY", raising=False)
    containerd.run("first", "/bin/sleep", "1000", detached=True)
    first = server(containerd, "first")
    names = iter(f"later{number}" for number in range(1000))

    def warm() -> str | None:
        containerd.run(name := next(names), "/bin/sleep", "1000", detached=True)
        return name if name_of(parent(server(containerd, name))) == STANDBY else None

    name = wait_until(warm, "a process that stands by") or ""
    second = server(containerd, name)
    standby = parent(second)
    assert cgroups(first) == cgroups(second)
    os.kill(standby, signal.SIGKILL)
    containerd.daemon.kill()
    containerd.exec(name, "echo new >/new; rm /d/a")
    containerd.kill()
    containerd.daemon.start()
    containerd.start()
    wait_until(lambda: containerd.exec(name, "ls /d; cat /new") == "new\n", "what was written before")


def server(containerd: Containerd, name: str) -> int:
    """The process that serves a container's root."""
    place = str(containerd.place / "state")
    records = [json.loads(path.read_text()) for path in Path("/run/layerfs").glob("*.json")]
    (found,) = [
        entry for entry in records if place in entry["mountpoint"] and containerd.id(name) in entry["mountpoint"]
    ]
    return int(found["pid"])


def cgroups(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


def test_many_containers_of_one_image_at_once(containerd: Containerd) -> None:
    """They say what they saw in files: ctr loses what a container prints when many are started at once."""
    out = containerd.place / "out"
    out.mkdir()
    bind = f"type=bind,src={out},dst=/out,options=rbind:rw"

    def work(number: int) -> None:
        script = f"echo {number} >/mine; cat /mine /l5/f >/out/{number}"
        containerd.run(f"c{number}", "/bin/sh", "-euc", script, options=("--mount", bind))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    assert {path.name: path.read_text() for path in out.iterdir()} == {f"{n}": f"{n}\n5" for n in range(16)}


def test_what_a_container_changed_becomes_a_layer(containerd: Containerd) -> None:
    containerd.run("made", "/bin/sleep", "1000", detached=True)
    containerd.exec("made", "echo new >/d/new; rm /d/a; rm -r /l2")
    command = ["ctr", "--address", str(containerd.socket), "snapshots", "--snapshotter", containerd.snapshotter]
    tar = containerd.place / "made.tar"
    with open(tar, "wb") as file:
        subprocess.run([*command, "diff", containerd.id("made")], stdout=file, check=True, env=containerd.environment)
    names = subprocess.run(["tar", "-tf", tar], capture_output=True, text=True, check=True).stdout.split()
    assert {".wh.l2", "d/.wh.a", "d/new"} <= set(names)


def test_a_pull_fetches_and_unpacks_what_was_pushed(containerd: Containerd) -> None:
    with docker_registry(containerd.place) as registry:
        name = f"{registry}/box:1"
        containerd.ctr("images", "tag", IMAGE, name)
        containerd.ctr("images", "push", "--plain-http", name)
        containerd.ctr("images", "remove", "--sync", name, IMAGE)
        wait_until(lambda: containerd.snapshots() == [])
        containerd.ctr("images", "pull", "--plain-http", "--snapshotter", containerd.snapshotter, name)
        containerd.ctr("images", "tag", name, IMAGE)
        assert containerd.run("pulled", "/bin/cat", "/l1/f") == "1"


def pushed(containerd: Containerd, registry: str) -> str:
    """Push the image, and have containerd forget it; return its name."""
    name = f"{registry}/box:1"
    containerd.ctr("images", "import", "--no-unpack", archive(containerd.place / "image.tar"))
    containerd.ctr("images", "tag", IMAGE, name)
    containerd.ctr("images", "push", "--plain-http", name)
    containerd.ctr("images", "remove", "--sync", name, IMAGE)
    return name


def layerfs(*words: str | Path) -> None:
    subprocess.run([BIN / "layerfs", *words], check=True, capture_output=True)


def pull_without_layers(containerd: Containerd, name: str) -> None:
    """Pull and run an image as the kubelet does, without a layer being fetched; then have containerd forget it."""
    cri.pull(containerd.socket, name)
    assert not set(packed_digests()) & set(cri.ctr(containerd, "content", "list", "--quiet").split())
    run = ("run", "--rm", "--snapshotter", containerd.snapshotter, name, containerd.id("remote"))
    words = ("/bin/sh", "-c", 'printf %s "$(cat /d/a /l7/f)"')  # one write: the shim of 1.6 can lose the last of two
    assert cri.ctr(containerd, *run, *words) == "a7"
    cri.ctr(containerd, "images", "remove", "--sync", *cri.ctr(containerd, "images", "list", "-q").split())
    listing = ("snapshots", "--snapshotter", containerd.snapshotter, "ls")
    wait_until(lambda: len(cri.ctr(containerd, *listing).splitlines()) == 1)


def test_layers_that_the_store_holds_are_neither_fetched_nor_unpacked(snapshotter: str, scratch: Path) -> None:
    """By the kubelet's service, as ctr 1.6 asks for no remote snapshots; again after containerd forgot the image."""
    with a_containerd(scratch, snapshotter, cri=True) as containerd, docker_registry(scratch) as registry:
        name = pushed(containerd, registry)
        driver = snapshotter.removeprefix("layerfs-")
        layerfs("image", "import", scratch / "image.tar", "--root", scratch / "store", "--snapshotter", driver)
        held = containerd.directories()
        for _ in range(2):
            pull_without_layers(containerd, name)
            assert set(containerd.directories()) == set(held)


@pytest.mark.parametrize("snapshotter", ["overlay", "xar"], indirect=True)
def test_layers_that_the_package_cache_holds_are_not_fetched(
    snapshotter: str, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come from another store on the host, which is gone when containerd asks."""
    monkeypatch.setenv("LAYERFS_CACHE", str(scratch / "cache"))
    with a_containerd(scratch, snapshotter, cri=True) as containerd, docker_registry(scratch) as registry:
        name = pushed(containerd, registry)
        other = ("--root", scratch / "other", "--snapshotter", "overlay")
        layerfs("image", "import", scratch / "image.tar", *other)
        layerfs("image", "cache", IMAGE, *other)
        shutil.rmtree(scratch / "other")
        for _ in range(2):
            pull_without_layers(containerd, name)
            wait_until(lambda: containerd.directories() == [])


def test_two_names_of_one_driver_keep_apart(scratch: Path) -> None:
    """containerd numbers each snapshotter's keys from 1, and its collector removes what this name does not know."""
    with a_containerd(scratch, "layerfs") as containerd:
        image = archive(scratch / "image.tar")
        containerd.ctr("images", "import", "--snapshotter", "layerfs", image)
        containerd.run("lasting", "/bin/sleep", "1000", detached=True)
        containerd.exec("lasting", "echo mine >/new")
        before = containerd.snapshots()
        other = ("--snapshotter", "layerfs-overlay")
        containerd.ctr("images", "import", *other, image)
        containerd.ctr("run", "--rm", *other, IMAGE, containerd.id("other"), "/bin/true")
        containerd.ctr("content", "prune", "references")
        for key in reversed(containerd.ctr("snapshots", *other, "ls").splitlines()[1:]):
            containerd.attempt("snapshots", *other, "rm", key.split()[0])
        containerd.ctr("content", "prune", "references")
        assert containerd.snapshots() == before
        assert containerd.exec("lasting", "cat /new /l7/f") == "mine\n7"
        containerd.run("after", "/bin/true")
        remove_all(containerd)
