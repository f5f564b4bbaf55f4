"""Layers to mount, and the program to mount them with."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.images import Shop
from tests.cli.scene import rootless as rootless
from tests.cli.scene import scene as scene
from tests.host import BIN, Person, require
from tests.waiting import PATIENCE
from tests.xars import Desk, a_desk

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Place:
    """Two layers, an upper and a mountpoint, and `layerfs` as run by who owns them."""

    base: Path
    person: Person | None = None

    @property
    def mnt(self) -> Path:
        return self.base / "mnt"

    @property
    def layers(self) -> list[Path]:
        return [self.base / "top", self.base / "bottom"]

    @property
    def upper(self) -> Path:
        return self.base / "upper"

    def run(
        self, *words: str | Path, program: str = "layerfs", env: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program of ours in `base` and return how it ended."""
        command = [str(BIN / program), *map(str, words)]
        options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": PATIENCE, "cwd": self.base}
        if self.person is not None:
            return self.person.run(command, check=False, env=env, **{k: v for k, v in options.items() if k != "text"})
        environment = {**os.environ, **(env or {})}
        return subprocess.run(command, check=False, stdin=subprocess.DEVNULL, env=environment, **options)

    def do(self, *words: str | Path, program: str = "layerfs", env: Mapping[str, str] | None = None) -> str:
        """Run it to success and return what it printed."""
        done = self.run(*words, program=program, env=env)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def mount(self, *words: str | Path) -> None:
        """Mount both layers with the upper."""
        self.do("mount", *self.layers, self.mnt, "--upper", self.upper, *words)

    def status(self) -> dict[str, Any]:
        """Return what `status --json` says of the mountpoint; {} if it knows none."""
        found = json.loads(self.do("status", "--json"))
        return next((mount for mount in found if mount["mountpoint"] == str(self.mnt)), {})


def make_place(base: Path, person: Person | None) -> Place:
    """Write the layers: one file in each, and one that the top hides."""
    place = Place(base, person)
    for path in (base, *place.layers, place.upper, place.mnt):
        path.mkdir(exist_ok=True)
    for layer in place.layers:
        (layer / layer.name).write_text(layer.name)
        (layer / "both").write_text(layer.name)
    if person is not None:
        for path in (base, *base.rglob("*")):
            os.chown(path, person.uid, person.gid)
    return place


@pytest.fixture
def place(scratch: Path) -> Place:
    """A place of root's."""
    require("root", "fuse")
    return make_place(scratch / "place", None)


@pytest.fixture(params=["root", "person"])
def either(request: pytest.FixtureRequest, scratch: Path, person: Person) -> Place:
    """A place of root's, and one of somebody without root."""
    require("fuse", *(("root",) if request.param == "root" else ()))
    return make_place(scratch / "place", person if request.param == "person" else None)


@pytest.fixture(params=["root", "person"])
def desk(request: pytest.FixtureRequest, scratch: Path, person: Person) -> Iterator[Desk]:
    """XARs and the programs that run them, as root and as a person."""
    require("mksquashfs", "fuse", *(("root",) if request.param == "root" else ()))
    with a_desk(scratch / "desk", person if request.param == "person" else None) as desk:
        yield desk


@pytest.fixture
def persons_desk(scratch: Path, person: Person) -> Iterator[Desk]:
    """The same, as a person."""
    require("mksquashfs", "fuse")
    with a_desk(scratch / "desk", person) as desk:
        yield desk


@pytest.fixture
def shop(scratch: Path) -> Shop:
    """An empty store for the verbs about images."""
    require("root", "kernel overlay")
    return Shop(scratch)
