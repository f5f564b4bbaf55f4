"""`layerfs run` on a small stack, as root and as a person, by the kernel and by FUSE."""

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import mounts_below
from tests.host import BIN, Person, require
from tests.waiting import PATIENCE

APPLETS = ("sh", "ls", "cat", "id", "rm", "mkdir", "rmdir", "mv", "sleep", "tty", "stat", "ps", "env", "kill", "grep")
_times = itertools.count()
NEEDS = {"root": ("root", "kernel overlay"), "person": ("userns overlay", "subids")}


@dataclass(frozen=True)
class Scene:
    """Two layers with busybox in the lower one, and who runs `layerfs run` on them."""

    place: Path
    person: Person | None
    options: tuple[str, ...] = ()

    def command(self, *words: str | Path) -> list[str]:
        command = [str(BIN / "layerfs"), "run", *self.options, "top", "bottom", *map(str, words)]
        return self.person.command(command) if self.person else command

    @property
    def around(self) -> dict[str, Any]:
        """What every process is started with: the temporary directory is the scene's own."""
        login = self.person.environment() if self.person else dict(os.environ)
        return {"cwd": self.place, "env": login | {"TMPDIR": str(self.place / "tmp")}}

    def run(self, *words: str | Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*words),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
            **self.around,
        )

    def shell(self, script: str, *words: str) -> list[str]:
        """Run a script that succeeds and return its lines."""
        done = self.run(*words, "--", "sh", "-c", script)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(self.command(*words), stdout=subprocess.PIPE, text=True, **self.around)

    def make(self, *names: str) -> None:
        for name in names:
            path = self.place / name
            path.mkdir()
            if self.person:
                os.chown(path, self.person.uid, self.person.gid)


def make_scene(place: Path, person: Person | None, options: tuple[str, ...] = ()) -> Scene:
    require("busybox")
    for name in ("top", "bottom/bin", "bottom/etc", "bottom/root", "tmp"):
        (place / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", place / "bottom/bin/busybox")
    for name in APPLETS:
        (place / "bottom/bin" / name).symlink_to("busybox")
    (place / "bottom/hidden").touch()
    (place / "bottom/common").write_text("bottom\n")
    (place / "top/common").write_text("top\n")
    if person:
        for path in (place, *place.rglob("*")):
            os.chown(path, person.uid, person.gid, follow_symlinks=False)
    return Scene(place, person, options)


@pytest.fixture(params=["root", "person", "root by FUSE", "person by FUSE"])
def scene(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Scene]:
    who, _, how = request.param.partition(" by ")
    require(*NEEDS[who], *(["fuse"] if how else []))
    person = request.getfixturevalue("person") if who == "person" else None
    place = scratch / "scene"
    place.mkdir()
    yield make_scene(place, person, ("--driver", "fuse") if how else ())
    assert mounts_below(place) == []
    assert os.listdir(place / "tmp") == []


@pytest.fixture
def rootless(scratch: Path, person: Person) -> Scene:
    require(*NEEDS["person"])
    return make_scene(scratch, person)


def a_long_time() -> str:
    """Return seconds to sleep that no other test sleeps, so that its processes are found by their command line."""
    return str(10**8 + os.getpid() % 1_000_000 * 1000 + next(_times))


def processes(*command: str) -> list[int]:
    """The processes with exactly this command line."""
    wanted = b"".join(word.encode() + b"\0" for word in command)
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == wanted:
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
