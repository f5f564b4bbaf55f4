"""Stacks of directories and images, as root and as somebody without: how they are made, mounted and looked at."""

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from layerfs.mounts.images import _BYTES_USED
from layerfs.sys.mounts import unmount
from layerfs.xar.header_writer import make_header
from tests.conftest import mounts_below
from tests.e2e.manifest import Facts
from tests.host import BIN, PROJECT, Person, require
from tests.images import loops_below, make_image, servers_below
from tests.waiting import PATIENCE, wait_until

TIME = 1_600_000_000  # s; squashfs keeps whole seconds
LAYERS = ("top", "middle", "low", "bottom")  # directory, image, directory, XAR
FILES = {
    "top": {"added": "top", "dir/top": "top"},
    "middle": {"file": "middle", "dir/middle": "m" * 300_000, "opaque/shown": "shown", "first": "linked"},
    "low": {"file": "low", "dir/low": "low", "opaque/hidden": "hidden", "gone-below": "low"},
    "bottom": {"dir/bottom": "bottom", "gone-above": "bottom", "opaque/deep": "hidden", "kept": "bottom", "x/y/z": "z"},
}
CHANGES = """
cd "$1" || exit
echo more >> file; echo more >> dir/bottom; chmod 600 dir/low; rm kept; rm -r opaque; mkdir opaque; echo n > opaque/n
mv first renamed; ln renamed third; mkdir made; echo made > made/file; echo new > gone-below; truncate -s 5 dir/middle
"""


@dataclass(frozen=True)
class Place:
    """The layers as directories (`top`) and as what they are mounted as, and `layerfs` as run by who owns them."""

    base: Path
    person: Person | None

    @property
    def stack(self) -> list[Path]:
        kinds = {"middle": "middle.sqfs", "bottom": "bottom.xar"}
        return [self.base / kinds.get(name, name) for name in LAYERS]

    @property
    def directories(self) -> list[Path]:
        return [self.base / name for name in LAYERS]

    @property
    def images(self) -> list[Path]:
        return [layer for layer in self.stack if layer.suffix]

    @property
    def mnt(self) -> Path:
        return self.base / "mnt"

    def start(self, *words: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run a program of the virtual environment; a person does so in the namespaces they are in."""
        command = [str(word) for word in words]
        around: dict[str, Any] = {"cwd": self.base, "env": self.environment(), "timeout": PATIENCE}
        return subprocess.run(command, capture_output=True, text=True, check=False, **around)

    def environment(self) -> dict[str, str]:
        own = self.person.environment() if self.person else dict(os.environ)
        return own | {"PATH": f"{BIN}:{own['PATH']}", "PYTHONPATH": str(PROJECT)}

    def do(self, *words: str | Path) -> str:
        done = self.start(BIN / "layerfs", *words)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def mount(self, *words: str | Path) -> None:
        self.do("mount", *self.stack, self.mnt, *words)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.do("status", "--json", self.mnt))[0]
        return found

    def new(self, *names: str) -> list[Path]:
        """Make directories of whose they are."""
        paths = [self.base / name for name in names]
        for path in paths:
            path.mkdir()
            if self.person:
                os.chown(path, self.person.uid, self.person.gid)
        return paths

    def script(self, text: str, *words: str | Path) -> str:
        """Run a shell's lines as the person, in new user and mount namespaces; return what they printed."""
        assert self.person
        shell = ["unshare", "-Urm", "sh", "-euc", text, "sh", *map(str, words)]
        done = self.start(*self.person.command(shell))
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


def write_layers(base: Path, marks: str, *, device: bool) -> None:
    """Write the layers as directories: files, links, a pipe, whiteouts, an opaque directory, xattrs, times."""
    for layer, files in FILES.items():
        for name, text in files.items():
            (base / layer / name).parent.mkdir(parents=True, exist_ok=True)
            (base / layer / name).write_text(text)
    middle = base / "middle"
    os.link(middle / "first", middle / "second")
    (middle / "link").symlink_to("dir/bottom")
    os.mkfifo(middle / "dir/pipe")
    for whiteout in (middle / "gone-below", middle / "gone-above"):
        os.mknod(whiteout, stat.S_IFCHR, 0)
    if device:
        os.mknod(middle / "device", stat.S_IFCHR | 0o640, os.makedev(1, 3))
        os.chown(middle / "file", 1234, 5678)
    os.setxattr(middle / "opaque", f"{marks}.overlay.opaque", b"y")
    os.setxattr(middle / "file", "user.comment", b"as it was")
    (middle / "file").chmod(0o4755)


def make_place(base: Path, person: Person | None) -> Place:
    """Write the layers, and pack two of them."""
    place = Place(base, person)
    base.mkdir()
    write_layers(base, "user" if person else "trusted", device=person is None)
    (base / "mnt").mkdir()
    for path in (base, *base.rglob("*")):
        if person:
            os.chown(path, person.uid, person.gid, follow_symlinks=False)
        os.utime(path, (TIME, TIME), follow_symlinks=False)
    # In a user namespace its ids are meant, as they are when an archive is unpacked there.
    owner = ["-all-root"] if person else []
    make_image(base / "middle.sqfs", base / "middle", *owner)
    make_image(base / "image", base / "bottom", *owner)
    (base / "bottom.xar").write_bytes(make_header(uuid="8f583eae", version="1") + (base / "image").read_bytes())
    return place


def left_below(base: Path) -> tuple[list[str], list[Path], list[int]]:
    return mounts_below(base), loops_below(base), servers_below(base)


def clean(base: Path) -> bool:
    return left_below(base) == ([], [], [])


KILLED = """
import os, signal, sys
from layerfs.cli.main import main
from layerfs.mounts import kernel
def die(*_arguments):
    os.kill(os.getpid(), signal.SIGKILL)
kernel.mount_overlay = die
main(sys.argv[1:])
"""


def spoil(place: Place, kind: str) -> Path:
    """Make a layer that cannot be mounted."""
    path = place.base / kind
    if kind == "lzma":
        return make_image(path, place.base / "middle", "-comp", "lzma")
    content = (place.base / "middle.sqfs").read_bytes()
    (used,) = _BYTES_USED.unpack_from(content)
    contents = {
        "text": b"no image",
        "empty": b"",
        "short": content[: used - 600],
        "header": content[:50],  # of 96
        "superblock": content[:20] + b"\xff" * 12 + content[32:],
        "tables": content[:96] + b"\xff" * (len(content) - 96),
        "unpadded": content[:used],
    }
    path.write_bytes(contents[kind])
    return path


@pytest.fixture
def place(scratch: Path) -> Iterator[Place]:
    """A place of root's; afterwards no mount, loop device or server may be left."""
    require("root", "kernel overlay", "mksquashfs")
    place = make_place(scratch / "place", None)
    yield place
    for _ in mounts_below(place.base):
        unmount(os.fsencode(place.mnt), lazy=True)
    wait_until(lambda: clean(place.base), "mounts, loop devices and servers to go")


@pytest.fixture
def theirs(scratch: Path, person: Person) -> Iterator[Place]:
    """A place of somebody without root."""
    require("userns overlay", "mksquashfs", "fuse")
    place = make_place(scratch / "place", person)
    yield place
    wait_until(lambda: clean(place.base), "mounts, loop devices and servers to go")


def facts(found: dict[str, Facts], *without: str) -> dict[str, Facts]:
    """Leave out what an image cannot know (which of a file's blocks are holes), and more."""
    left_out = {"sparse", *without}
    return {path: {key: fact[key] for key in fact.keys() - left_out} for path, fact in found.items()}
