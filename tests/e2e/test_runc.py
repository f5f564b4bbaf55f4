"""runc on a bundle whose root filesystem is a layerfs mount, as root and as root of a user namespace."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import performance
from .people import Kind
from .stage import Stage, Tree

NEEDS = ("runc", "busybox")

APPLETS = ("sh", "ls", "cat", "mv", "rm", "mkdir", "id", "touch", "test", "chmod", "stat", "ln")
ROOTFS: Tree = {
    "bin": {"busybox": Path("/bin/busybox").read_bytes(), **dict.fromkeys(APPLETS, Path("busybox"))},
    **dict.fromkeys(("dev", "proc", "sys", "tmp")),
    "data": {"deep": {f"f{number}": f"{number}\n" for number in range(50)}, "gone": "gone\n"},
}


@pytest.fixture(params=[Kind.ROOT, Kind.USERNS], ids=lambda kind: kind.value)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with performance(request.param) as stage:
        yield stage


def bundle(stage: Stage, script: str) -> Path:
    """Write a bundle that runs a shell script; its root filesystem is mounted by the caller."""
    path = stage.directory("bundle")
    (path / "config.json").unlink(missing_ok=True)
    stage.run("runc", "spec", *(["--rootless"] if stage.kind is Kind.USERNS else []), cwd=path)
    file = path / "config.json"
    config: dict[str, Any] = json.loads(file.read_text())
    config["process"] |= {"args": ["/bin/sh", "-euc", script], "terminal": False, "rlimits": []}
    config["root"] = {"path": "rootfs", "readonly": False}
    file.write_text(json.dumps(config))
    return path


def run(stage: Stage, script: str) -> str:
    state = stage.directory("state")
    return stage.run("runc", "--root", state, "run", stage.root.name, cwd=bundle(stage, script))


def test_container_works_in_its_root_filesystem_and_leaves_its_changes_in_the_upper(stage: Stage) -> None:
    lower = stage.layer("lower", ROOTFS)
    (lower / "bin/busybox").chmod(0o755)
    stage.directory("bundle")
    union = stage.mount(lower, name="bundle/rootfs")
    work = "id -u; mv /data/deep /data/moved; rm /data/gone; echo new > /data/moved/f1; chmod 700 /data; ls /data/moved"
    assert run(stage, work).split() == ["0", *sorted(ROOTFS["data"]["deep"])]  # type: ignore[index, call-overload, arg-type]
    stage.remount(union)
    seen = "cat /data/moved/f1 /data/moved/f2; ls /data; stat -c %a /data; test ! -e /data/deep; ! cat /data/gone 2>&1"
    assert run(stage, seen).split()[:4] == ["new", "2", "moved", "700"]
    assert (lower / "data/gone").exists() and not (lower / "data/moved").exists()
