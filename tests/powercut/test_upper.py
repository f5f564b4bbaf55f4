"""What was acknowledged is in the upper after a power cut; what was not is there in whole or not at all."""

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.host import BIN
from tests.powercut.disk import Cut, Disk
from tests.waiting import PATIENCE

LANES = pytest.mark.parametrize("lane", ["lane", "nolane"])
SIZE = 20_000  # bytes of each lower file: some pages
ROUNDS = 4  # how often each change is made, each time to another file
CUTS = 25  # guessed so that each test takes 10 s
OLD, NEW = b"old." * (SIZE // 4), b"NEW." + b"old." * (SIZE // 4 - 1)
MakeDisk = Callable[[str], Disk]
Change = Callable[[Path], None]
State = tuple[bytes | None, bytes | None, int]  # content at the name, content where a rename leads, mode


def write(flags: int, settle: Callable[[int], None]) -> Change:
    def change(path: Path) -> None:
        fd = os.open(path, os.O_RDWR | flags)
        os.pwrite(fd, NEW[:4], 0)
        settle(fd)
        os.close(fd)

    return change


def settle_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def settle_filesystem(path: Path) -> None:
    subprocess.run(["sync", "--file-system", path], check=True, timeout=PATIENCE)


def replace(path: Path) -> None:
    """As editors and package managers do it."""
    beside = path.with_suffix(".beside")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(fd, NEW)
    os.fsync(fd)
    os.close(fd)
    os.rename(beside, path)
    settle_directory(path.parent)


def rename(path: Path) -> None:
    os.rename(path, path.with_suffix(".moved"))
    settle_directory(path.parent)


def unlink(path: Path) -> None:
    os.unlink(path)
    settle_directory(path.parent)


def chmod(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fchmod(fd, 0o600)
    os.fsync(fd)
    os.close(fd)


BEFORE: State = (OLD, None, 0o644)
CHANGES: dict[str, tuple[Change, State]] = {
    "fsync": (write(0, os.fsync), (NEW, None, 0o644)),
    "fdatasync": (write(0, os.fdatasync), (NEW, None, 0o644)),
    "dsync": (write(os.O_DSYNC, lambda fd: None), (NEW, None, 0o644)),
    "sync": (write(os.O_SYNC, lambda fd: None), (NEW, None, 0o644)),
    "replace": (replace, (NEW, None, 0o644)),
    "rename": (rename, (None, OLD, 0o644)),
    "unlink": (unlink, (None, None, 0)),
    "chmod": (chmod, (OLD, None, 0o600)),
}
UNTOLD: dict[str, tuple[Change, State]] = {
    "write": (write(0, lambda fd: None), (NEW, None, 0o644)),
    "rename": (lambda path: os.rename(path, path.with_suffix(".moved")), (None, OLD, 0o644)),
    "unlink": (os.unlink, (None, None, 0)),
    "chmod": (lambda path: path.chmod(0o600), (OLD, None, 0o600)),
}


OPENED: dict[str, tuple[Change, State]] = {"open": (lambda path: os.close(os.open(path, os.O_RDWR)), BEFORE)}


def look(path: Path) -> State:
    moved = path.with_suffix(".moved")
    contents = [place.read_bytes() if place.exists() else None for place in (path, moved)]
    there = [place.stat().st_mode & 0o7777 for place in (path, moved) if place.exists()]
    return (contents[0], contents[1], there[0] if there else 0)


class Upper:
    """A stack whose upper lies on a disk: one lower file for each change to be made."""

    def __init__(self, disk: Disk, scratch: Path, changes: dict[str, tuple[Change, State]], lane: str = "lane") -> None:
        """The lane answers from the first request on, or never."""
        self.environment = os.environ | {"LAYERFS_LANE": "1" if lane == "lane" else "0"}
        self.disk, self.lower, self.mountpoint = disk, scratch / "lower", scratch / "union"
        self.changes = {f"{name}{index}": change for index in range(ROUNDS) for name, change in changes.items()}
        (self.lower / "sub").mkdir(parents=True)
        self.mountpoint.mkdir()
        for number, name in enumerate(self.changes):
            self.path(self.lower, name, number).write_bytes(OLD)
        for name in ("upper", "work"):
            (disk.root / name).mkdir()
        settle_filesystem(disk.root)
        self.born = disk.position()

    @staticmethod
    def path(root: Path, name: str, number: int) -> Path:
        """Every second file lies in a directory that must be copied up first."""
        return root / ("sub" if number % 2 else ".") / name

    @contextmanager
    def mounted(self, root: Path, options: str = "") -> Iterator[Path]:
        """Mount the stack with the upper that lies on a filesystem."""
        stack: list[str | Path] = [self.lower, self.mountpoint, "--upper", root / "upper", "--work", root / "work"]
        self.run("mount", "--driver", "fuse", *stack, *(["-o", options] if options else []))
        yield self.mountpoint
        self.run("umount", self.mountpoint)

    def run(self, *words: str | Path) -> None:
        subprocess.run(
            [BIN / "layerfs", *words], check=True, stdin=subprocess.DEVNULL, timeout=PATIENCE, env=self.environment
        )

    def states(self, cut: Cut) -> dict[str, State]:
        with self.mounted(cut.root) as root:
            return {name: look(self.path(root, name, number)) for number, name in enumerate(self.changes)}

    def order(self, chance: random.Random) -> list[tuple[int, str]]:
        numbered = list(enumerate(self.changes))
        chance.shuffle(numbered)
        return numbered


@LANES
def test_what_was_acknowledged_is_there_after_a_power_cut(disk: MakeDisk, scratch: Path, lane: str) -> None:
    upper = Upper(disk("ext4"), scratch, CHANGES, lane)
    with upper.mounted(upper.disk.root) as root:
        for number, name in upper.order(random.Random(1)):
            with upper.disk.promise(name):
                upper.changes[name][0](upper.path(root, name, number))
    for cut in upper.disk.cuts("acknowledged", CUTS, upper.born):
        for name, state in upper.states(cut).items():
            after = upper.changes[name][1]
            allowed = [after] if (name,) in cut.promised else [BEFORE, after] if (name,) in cut.begun else [BEFORE]
            assert state in allowed, (cut.at, name, _short(state))


@pytest.mark.parametrize(("options", "lane"), [("", "lane"), ("", "nolane"), ("fsync=0", "lane")])
def test_what_nobody_acknowledged_is_old_or_new(disk: MakeDisk, scratch: Path, options: str, lane: str) -> None:
    """Another program's syncs let the journal commit in the middle of what is done here."""
    upper = Upper(disk("ext4"), scratch, UNTOLD, lane)
    with upper.mounted(upper.disk.root, options) as root:
        for number, name in upper.order(random.Random(2)):
            upper.changes[name][0](upper.path(root, name, number))
            if number % 3 == 0:
                settle_filesystem(upper.disk.root)
    for cut in upper.disk.cuts("untold", CUTS, upper.born):
        for name, state in upper.states(cut).items():
            assert state in (BEFORE, upper.changes[name][1]), (cut.at, name, _short(state))


@pytest.mark.parametrize(("mkfs", "lane"), [("ext4, no journal", "lane"), ("ext2", "lane"), ("ext2", "nolane")])
def test_a_file_that_was_only_opened_is_whole(disk: MakeDisk, scratch: Path, mkfs: str, lane: str) -> None:
    """The magic number of ext4 was taken for a journal: the file came back empty, or with other content."""
    upper = Upper(disk(mkfs), scratch, OPENED, lane)
    with upper.mounted(upper.disk.root) as root:
        for number, name in upper.order(random.Random(3)):
            upper.changes[name][0](upper.path(root, name, number))
    for cut in upper.disk.cuts("opened", CUTS, upper.born):
        for name, state in upper.states(cut).items():
            assert state == BEFORE, (cut.at, name, _short(state))


@pytest.mark.parametrize("options", ["", "fsync=0", "volatile"])
def test_what_was_unmounted_is_on_disk(disk: MakeDisk, scratch: Path, options: str) -> None:
    """Also the removal of the mark of a volatile mount: the next mount took its end for a crash."""
    upper = Upper(disk("ext4"), scratch, UNTOLD)
    with upper.mounted(upper.disk.root, options) as root:
        for number, name in upper.order(random.Random(4)):
            upper.changes[name][0](upper.path(root, name, number))
    with upper.disk.cut(upper.disk.position(), random.Random(5)) as cut:
        found = upper.states(cut)
    assert found == {name: after for name, (_, after) in upper.changes.items()}


@pytest.mark.parametrize("options", ["sync", "dirsync"])
def test_names_are_on_disk_where_mount_says_so(disk: MakeDisk, scratch: Path, options: str) -> None:
    upper = Upper(disk("ext4"), scratch, {name: UNTOLD[name] for name in ("unlink", "rename")})
    with upper.mounted(upper.disk.root, options) as root:
        for number, name in upper.order(random.Random(6)):
            upper.changes[name][0](upper.path(root, name, number))
        at = upper.disk.position()
    with upper.disk.cut(at, random.Random(7)) as cut:
        found = upper.states(cut)
    assert found == {name: after for name, (_, after) in upper.changes.items()}


def _short(state: State) -> str:
    return " ".join(str(part[:12] if isinstance(part, bytes) else part) for part in state)
