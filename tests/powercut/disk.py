"""A disk whose power can be cut: `Disk` logs what a filesystem writes to it, `Disk.cuts` shows what a cut leaves.

    with Disk(scratch, mkfs="ext4") as disk:              # disk.root: the filesystem, mounted
        with disk.promise("a", b"text"):                  # begun now; acknowledged when the block ends
            write_and_fsync(disk.root / "a", b"text")
        ...
        for cut in disk.cuts(seed=1, number=30):          # cut.root: the filesystem after the cut
            for name, data in cut.promised: ...           # acknowledged before it: must hold
            for name, data in cut.begun: ...              # begun before it: may hold, in whole or not at all

Below the filesystem is a loop device, below that a file of a FUSE server of our own (server.py), which logs writes and
flushes. A disk may keep writes in its cache and write them in any order until it is told to flush. So a cut is every
write up to the last flush before it, and of the later writes a random part, by sectors. As root only.
"""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.conftest import mounts_below
from tests.host import PROJECT
from tests.powercut.server import Record, records
from tests.waiting import PATIENCE

SIZE = 48 << 20  # bytes; ext4 gives itself a journal of 4 MiB
SECTOR = 4096  # bytes that a disk writes in whole or not at all; with 512 a torn superblock ends ext4 itself
MKFS = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", "-O", "^resize_inode"),
    "ext4, no journal": ("mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0", "-O", "^has_journal"),
    "ext2": ("mkfs.ext2", "-q", "-F", "-E", "nodiscard"),
    "xfs": ("mkfs.xfs", "-q", "-K"),
    "btrfs": ("mkfs.btrfs", "-q", "-K"),
}
SIZES = {"btrfs": 128 << 20, "xfs": 320 << 20}  # bytes; a little more than the least that mkfs takes

Fact = tuple[Any, ...]


@dataclass(frozen=True)
class Promise:
    """Something said to be on disk: begun and acknowledged at these positions of the log."""

    fact: Fact
    begun: int
    kept: int


@dataclass(frozen=True)
class Cut:
    """The filesystem as a cut of the power left it, and what had been said before."""

    at: int
    root: Path
    promised: tuple[Fact, ...]
    begun: tuple[Fact, ...]


class Disk:
    """A filesystem on a disk whose power can be cut, below `place`; unmounted and gone at the end of the `with`."""

    def __init__(self, place: Path, mkfs: str = "ext4", size: int = 0) -> None:
        self.place = place / "powercut"
        self.root = self.place / "root"
        self.kind = mkfs.partition(",")[0]
        self._mkfs, self._size = MKFS[mkfs], size or SIZES.get(mkfs, SIZE)
        self._log, self._image = self.place / "log", self.place / "image"
        self._promises: list[Promise] = []
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        for directory in (self.place, self.place / "served", self.root):
            directory.mkdir()
        self._log.touch()
        _make_file(self._image, self._size)
        with ExitStack() as self._closing:
            self._closing.enter_context(self._served())
            _run(*self._mkfs, self.place / "served/disk")
            self._closing.enter_context(_mounted(self.place / "served/disk", self.root, self.kind))
            self.born = self.position()
            self._closing = self._closing.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    @contextmanager
    def _served(self) -> Iterator[None]:
        words: list[str | Path] = [self.place / "served", self._image, self._log]
        command = [sys.executable, "-m", "tests.powercut.server", *words]
        server = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None
            with server.stdout:
                server.stdout.read()
            assert os.path.ismount(self.place / "served"), "the disk's server does not start"
            yield
        finally:
            for point in mounts_below(self.place / "served"):
                _run("umount", point)
            server.wait(PATIENCE)

    def position(self) -> int:
        """How much has reached the disk: the length of the log [bytes]."""
        return self._log.stat().st_size

    @contextmanager
    def promise(self, *fact: Any) -> Iterator[None]:
        """Note a fact that is begun now and acknowledged when the block ends."""
        begun = self.position()
        yield
        self._promises.append(Promise(fact, begun, self.position()))

    def moments(self, since: int | None = None) -> list[int]:
        """The positions of the log at which a request had been answered, after `since` (the filesystem's making)."""
        ends = (record.end for record in records(self._log, self.position()))
        return [end for end in ends if end > (self.born if since is None else since)]

    def cuts(self, seed: int | str, number: int, since: int | None = None) -> Iterator[Cut]:
        """Cut the power at random moments after `since` (the filesystem's making), at last now."""
        chance, moments = random.Random(seed), self.moments(since)
        for at in [*sorted(chance.sample(moments, min(number, len(moments)))), self.position()]:
            with self.cut(at, chance) as cut:
                yield cut

    @contextmanager
    def cut(self, at: int, chance: random.Random) -> Iterator[Cut]:
        """Mount the filesystem as a cut at a position of the log leaves it; its journal is replayed by that."""
        image, root = self.place / "cut", self.place / "after"
        root.mkdir(exist_ok=True)
        self._write_image(image, at, chance)
        if self.kind == "ext2" or "^has_journal" in self._mkfs:  # what init does before it mounts one after a crash
            subprocess.run(["e2fsck", "-fy", image], capture_output=True, check=False, timeout=PATIENCE)
        promised = tuple(promise.fact for promise in self._promises if promise.kept <= at)
        begun = tuple(promise.fact for promise in self._promises if promise.begun < at < promise.kept)
        with _mounted(image, root, self.kind):
            yield Cut(at, root, promised, begun)

    def _write_image(self, image: Path, at: int, chance: random.Random) -> None:
        _make_file(image, self._size)
        flushed = max((record.end for record in records(self._log, at) if record.is_flush), default=0)
        with open(image, "r+b", buffering=0) as out:
            for record in (record for record in records(self._log, at) if not record.is_flush):
                _write(out.fileno(), record, chance if record.end > flushed else None)


def _write(fd: int, record: Record, chance: random.Random | None) -> None:
    """Write all of a record, or with a `chance` whatever part of it the disk had got to."""
    part = 1.0 if chance is None else chance.choice((0.0, 1.0, 1.0, chance.random()))
    if part == 1.0:
        os.pwrite(fd, record.data, record.offset)
        return
    assert chance is not None
    start = 0
    while part and start < len(record.data):
        end = start + SECTOR - (record.offset + start) % SECTOR
        if chance.random() < part:
            os.pwrite(fd, record.data[start:end], record.offset + start)
        start = end


def _make_file(path: Path, size: int) -> None:
    with open(path, "wb") as out:
        out.truncate(size)


@contextmanager
def _mounted(image: Path, root: Path, kind: str) -> Iterator[None]:
    options = "loop,nouuid" if kind == "xfs" else "loop"
    _run("mount", "-t", kind, "-o", options, image, root)
    try:
        yield
    finally:
        for point in mounts_below(root):
            _run("umount", point)


def _run(*words: str | Path) -> None:
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=PATIENCE)
