"""containerd 2, buildkitd and nerdctl over layerfs: pull, build in stages, push, run, commit.

LAYERFS_PEERS names a directory that has containerd, ctr, containerd-shim-runc-v2, buildkitd, buildctl and nerdctl;
without it nothing here is collected (docs/containerd.md says how to build them).
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemon.client import connects, serving
from tests.e2e.containerd import (
    IMAGE,
    Containerd,
    a_containerd,
    archive,
    on_btrfs,
    packed_digests,
    print_config,
)
from tests.e2e.test_containerd import remove_all
from tests.oci.registries import docker_registry
from tests.waiting import PATIENCE, wait_until

PEERS = Path(os.environ.get("LAYERFS_PEERS", "/nowhere"))
NEEDS = ("root", "fuse", "runc", "docker-registry", "mkfs.btrfs")
DOCKERFILE = """\
FROM {base} AS build
RUN mkdir -p /out && echo built >/out/result && rm -r /l3 && mv /d /moved
RUN --mount=type=cache,target=/cache echo kept >/cache/x && cat /moved/a >>/out/result
FROM {base}
RUN rm /l5/f && mkdir /l5/new
COPY --from=build /out /app
COPY --from=build /moved /app/moved
"""
SEEN = "cat /app/result /app/moved/a; ls /l5 /l3"
EXPECTED = ["built", "aa/l3:", "f", "/l5:", "new"]
BUILDKITD = """\
root = "{place}/buildkit"
[grpc]
  address = ["unix://{place}/bk.sock"]
[registry."{registry}"]
  http = true
[worker.oci]
  enabled = {alone}
  networkMode = "host"
  snapshotter = "{snapshotter}"
  {proxy}
[worker.containerd]
  enabled = {beside}
  address = "{place}/c.sock"
  networkMode = "host"
  snapshotter = "{snapshotter}"
"""


@pytest.fixture
def registry(scratch: Path) -> Iterator[str]:
    """A registry on loopback."""
    with docker_registry(scratch) as address:
        yield address


@pytest.fixture
def containerd(snapshotter: str, scratch: Path) -> Iterator[Containerd]:
    """containerd 2 over each driver."""
    with a_containerd(scratch, snapshotter, peers=PEERS) as made:
        yield made


def push_base(containerd: Containerd, registry: str) -> str:
    """Push the image, and have containerd forget it; return its name."""
    name = f"{registry}/box:1"
    containerd.ctr("images", "import", "--local", "--no-unpack", archive(containerd.place / "image.tar"))
    containerd.ctr("images", "tag", IMAGE, name)
    containerd.ctr("images", "push", "--local", "--plain-http", name)
    containerd.ctr("images", "remove", "--sync", name, IMAGE)
    return name


@contextmanager
def a_buildkitd(
    place: Path, environment: dict[str, str], registry: str, snapshotter: str, proxy: str
) -> Iterator[None]:
    """A buildkitd while the block lasts: with the containerd at the place, or by itself with a proxy snapshotter."""
    words = {"place": place, "registry": registry, "snapshotter": snapshotter, "proxy": proxy}
    alone = json.dumps(bool(proxy))
    (place / "bk.toml").write_text(BUILDKITD.format(alone=alone, beside=json.dumps(not proxy), **words))
    with open(place / "bk.log", "wb") as log:
        command: list[str | Path] = [PEERS / "buildkitd", "--config", place / "bk.toml"]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        wait_until(lambda: connects(place / "bk.sock"))
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def build(place: Path, environment: dict[str, str], base: str, name: str) -> None:
    """Build the Dockerfile and push what it makes."""
    (place / "context").mkdir(exist_ok=True)
    (place / "context/Dockerfile").write_text(DOCKERFILE.format(base=base))
    context: list[str | Path] = [f"--local=context={place}/context", f"--local=dockerfile={place}/context"]
    output = f"--output=type=image,name={name},push=true,registry.insecure=true"
    command: list[str | Path] = [PEERS / "buildctl", "--addr", f"unix://{place}/bk.sock", "build", "--no-cache"]
    context.append("--frontend=dockerfile.v0")
    done = subprocess.run([*command, *context, output], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:] + (place / "bk.log").read_text()[-4000:]


def look(containerd: Containerd, name: str) -> list[str]:
    """Pull an image that was built, and return what a container of it sees."""
    containerd.ctr("images", "pull", "--plain-http", "--local", "--snapshotter", containerd.snapshotter, name)
    run = ("run", "--rm", "--snapshotter", containerd.snapshotter, name, containerd.id("built"))
    return containerd.ctr(*run, "/bin/sh", "-c", SEEN).split()


def test_containerd_2_pulls_and_what_is_there_is_not_fetched_again(containerd: Containerd, registry: str) -> None:
    """The second time for another namespace, both by the transfer service, which unpacks layers side by side."""
    name = push_base(containerd, registry)
    for namespace in ("one", "two"):
        ctr = ("--namespace", namespace)
        containerd.ctr(*ctr, "images", "pull", "--plain-http", "--snapshotter", containerd.snapshotter, name)
        run = (*ctr, "run", "--rm", "--snapshotter", containerd.snapshotter, name, containerd.id(namespace))
        assert containerd.ctr(*run, "/bin/sh", "-c", "cat /d/a /l7/f; ls /etc").split() == ["a7two"]
        if namespace == "two" and containerd.snapshotter != "layerfs-btrfs":
            there = set(containerd.ctr(*ctr, "content", "list", "--quiet").split())
            assert not set(packed_digests()) & there
    for namespace in ("one", "two"):
        containerd.ctr("--namespace", namespace, "images", "remove", "--sync", name)
    wait_until(lambda: containerd.directories() == [])


def test_buildkitd_builds_in_stages_with_containerd(containerd: Containerd, registry: str) -> None:
    base = push_base(containerd, registry)
    place, built = containerd.place, f"{registry}/built:1"
    assert "snapshotter" in print_config(containerd.daemon, "buildkitd")
    with a_buildkitd(place, containerd.environment, registry, containerd.snapshotter, ""):
        build(place, containerd.environment, base, built)
    assert look(containerd, built) == EXPECTED


def test_buildkitd_builds_in_stages_by_itself(containerd: Containerd, registry: str) -> None:
    base = push_base(containerd, registry)
    place, built = containerd.place / "alone", f"{registry}/built:1"
    place.mkdir()
    (place / "store").mkdir(mode=0o700)
    if containerd.snapshotter == "layerfs-btrfs":
        on_btrfs(place)
    with serving(place) as daemon:
        proxy = f'proxySnapshotterPath = "{daemon.address}"'
        with a_buildkitd(place, containerd.environment, registry, containerd.snapshotter, proxy):
            build(place, containerd.environment, base, built)
    assert look(containerd, built) == EXPECTED


def test_nerdctl_pulls_runs_and_commits(containerd: Containerd, registry: str) -> None:
    base = push_base(containerd, registry)
    command: list[str | Path] = [
        PEERS / "nerdctl",
        "--address",
        containerd.socket,
        "--snapshotter",
        containerd.snapshotter,
    ]
    command += ["--cgroup-manager", "cgroupfs", "--insecure-registry", "--data-root", containerd.place / "nerdctl"]

    def nerdctl(*words: str) -> str:
        done = subprocess.run(
            [*command, *words], capture_output=True, text=True, check=False, env=containerd.environment
        )
        assert done.returncode == 0, f"nerdctl {words}: {done.stdout}{done.stderr}"
        return done.stdout

    nerdctl("pull", base)
    assert nerdctl("run", "--rm", "--net", "none", base, "/bin/cat", "/l7/f") == "7"
    nerdctl("run", "-d", "--name", "work", "--net", "none", base, "/bin/sleep", "1000")
    nerdctl("exec", "work", "/bin/sh", "-c", "rm -r /l3; echo new >/d/new; mv /l4 /l9")
    nerdctl("commit", "work", f"{registry}/committed:1")
    nerdctl("rm", "-f", "work")
    seen = nerdctl(
        "run",
        "--rm",
        "--net",
        "none",
        f"{registry}/committed:1",
        "/bin/sh",
        "-c",
        "cat /d/new /l9/f; ls /l3 || echo gone",
    )
    assert seen.split() == ["new", "4gone"]
    nerdctl("push", f"{registry}/committed:1")
    remove_all(containerd)
