"""Damaged tars, and directories that change while they are read: `python -m tests.batch.fuzz PLACE [MODULE]`.

PLACE is a directory to work in. MODULE is a build of the extension to use in the place of the installed one.
"""

import argparse
import os
import random
import shutil
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.sanitized import use
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layerfs.batch.directories import Listed

MODULE = "layerfs.batch._batch"
NAMES = (b"a", b"b", b"c", b"d", b".wh.x", b"..", b".", b"", b"x/y", b"n" * 98)
PARTS = ("a", "b", "c", "many", "line\nend", "n" * 255)
CALM = 40  # directories that nobody changes


class Tars:
    """Entries of a tar in any order, some of them damaged; what is written stays in one directory."""

    def __init__(self, place: Path, dice: random.Random) -> None:
        from layerfs.batch.batch import Batch

        self.place, self.dice, self.batch = place, dice, Batch()
        self.at = os.open(place, os.O_RDONLY)

    def entry(self) -> bytes:
        from tests.oci.tars import directory, file, link, pax, symlink

        name = b"d/" + self.dice.choice(NAMES)
        size = self.dice.choice((0, 1, 511, 512, 513, 3000))
        made = self.dice.choice((
            lambda: file(name, bytes(size), mode=self.dice.choice((0, 0o644, 0o6755))),
            lambda: file(name, bytes(size), uid=self.dice.randrange(3), mtime=self.dice.choice((0, 1 << 33, -1))),
            lambda: symlink(name, self.dice.choice((b"", b"t", b"t" * 100))),
            lambda: directory(name), lambda: link(name, b"d/a"), lambda: pax({b"path": name}),
        ))()  # fmt: skip
        return self.damage(made) if self.dice.random() < 0.3 else made

    def damage(self, entry: bytes) -> bytes:
        """Change a byte or two; of some the checksum is right again."""
        block = bytearray(entry)
        for _ in range(self.dice.randrange(1, 3)):
            block[self.dice.randrange(min(len(block), 512))] = self.dice.choice((0, 32, 48, 55, 57, 0x80, 0xFF))
        if self.dice.random() < 0.7:
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block[:512])
        return bytes(block)

    def step(self) -> None:
        """Write some entries from somewhere on, by bounds that may be too small."""
        data = b"".join(self.entry() for _ in range(self.dice.randrange(1, 8)))
        if self.dice.random() < 0.3:
            data = data[: self.dice.randrange(len(data) + 1)]
        start = self.dice.choice((0, 0, 0, 512, len(data)))
        start = min(start, len(data))
        most, entries = self.dice.choice((1 << 40, 1 << 40, 600, 0)), self.dice.choice((9999, 9999, 1, 0))
        done = self.batch.write(self.at, data, start, self.dice.choice((b"d/", b"d/", b"", b"d/" * 60)), most, entries)
        assert start <= done.next <= max(len(data), start) and done.size <= most
        assert len(done.headers) <= entries
        names = os.listdir(self.place)
        assert len(names) == len(done.headers), (names, done)  # what was begun and not completed is gone
        for name in names:
            os.unlink(self.place / name)

    def close(self) -> None:
        os.close(self.at)


class Directories:
    """Some directories that stay as they are, and some that a thread changes all the time."""

    def __init__(self, place: Path, dice: random.Random) -> None:
        self.place, self.dice = place, dice
        self.at = os.open(place, os.O_RDONLY)
        self.calm: dict[bytes, dict[bytes, bool]] = {}
        for number in range(CALM):
            self.lay_out(number)
        (place / "link").symlink_to("calm-1")
        os.mkfifo(place / "fifo")
        self.odd = (b"link", b"fifo", b"absent", b"..", b"a/b", b"n" * 255, b"n" * 300)
        self.moving = tuple(os.fsencode(name) for name in PARTS)

    def lay_out(self, number: int) -> None:
        """Make one that stays."""
        home, held = self.place / f"calm-{number}", {}
        home.mkdir()
        for each in range((0, 1, 7, 300, 40)[number % 5]):
            name, is_directory = f"{each}" + "-" * self.dice.choice((0, 3, 200)), self.dice.random() < 0.3
            (home / name).mkdir() if is_directory else (home / name).touch()
            held[os.fsencode(name)] = is_directory
        self.calm[os.fsencode(home.name)] = held

    def change(self) -> None:
        """Make or remove something in a directory that moves, or that itself."""
        home = self.place / random.choice(PARTS)
        with suppress(OSError):
            match random.randrange(6):
                case 0:
                    shutil.rmtree(home)
                case 1:
                    home.mkdir()
                case 2:
                    home.rename(self.place / random.choice(PARTS))
                case 3:
                    (home / random.choice(PARTS)).mkdir()
                case 4:
                    for number in range(300):
                        (home / f"{number:0>60}").touch()
                case 5:
                    os.mkfifo(home / "fifo")

    @contextmanager
    def changing(self) -> "Iterator[None]":
        """Have a thread change things meanwhile."""
        over = threading.Event()

        def work() -> None:
            while not over.is_set():
                self.change()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def step(self) -> None:
        """Read many at once, one by one or side by side."""
        from layerfs.batch.directories import COLD, SELF, read

        names = [
            self.dice.choice((*self.calm, *self.calm, *self.odd, *self.moving)) for _ in range(self.dice.randrange(60))
        ]
        wanted = [(self.at if self.dice.random() < 0.98 else -1, name) for name in names]
        if self.dice.random() < 0.3:
            wanted.insert(0, (self.dice.choice((self.at, -1)), SELF))
        found, _ = read(wanted, self.dice.choice((-1, -1, 0, COLD)))
        try:
            for (at, name), each in zip(wanted, found, strict=True):
                self.check(at, name, each)
        finally:
            for (_, name), each in zip(wanted, found, strict=True):
                if each.fd >= 0 and name != SELF:
                    os.close(each.fd)

    def check(self, at: int, name: bytes, found: "Listed") -> None:
        if at < 0:
            assert found.names is None
        elif name in self.calm and found.names is not None:
            assert dict(zip(found.names, map(bool, found.kinds), strict=True)) == self.calm[name]
        elif name in self.calm:
            assert sum(len(each) + 2 for each in self.calm[name]) > 1 << 14  # it may be too much, and no less
        assert found.names is None or len(found.names) == len(found.kinds)

    def look_ahead(self) -> None:
        """Ask for much, and end the threads at any moment."""
        from layerfs.batch.directories import Ahead

        ahead = Ahead()
        try:
            for _ in range(self.dice.randrange(400)):
                name = self.dice.choice((*self.calm, *self.odd, *self.moving, b"", b"/", b"x" * 5000))
                ahead.ask(self.at if self.dice.random() < 0.95 else -1, name)
                if self.dice.random() < 0.1:
                    ahead.waited()
        finally:
            ahead.close()

    def close(self) -> None:
        os.close(self.at)


def held() -> tuple[int, int]:
    """How many descriptors and threads there are."""
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("place", type=Path)
    parser.add_argument("module", nargs="?")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args()
    if options.module:
        use(MODULE, options.module)
    sys.setswitchinterval(1e-4)  # who changes things must not keep who reads them waiting
    dice = random.Random(options.seed)
    for name in ("tars", "directories"):
        (options.place / name).mkdir()
    first = threading.Thread(target=int)
    first.start()  # a sanitizer may have a thread of its own from then on
    first.join()
    wait_until(lambda: str(first.native_id) not in os.listdir("/proc/self/task"))
    before = held()
    tars, directories = Tars(options.place / "tars", dice), Directories(options.place / "directories", dice)
    for _ in range(options.count):
        tars.step()
    with directories.changing():
        for turn in range(options.count):
            directories.step()
            if turn % 10 == 0:
                directories.look_ahead()
    tars.close()
    directories.close()
    # The kernel still knows a thread for a moment that was waited for.
    wait_until(lambda: held() == before, lambda: f"{before} descriptors and threads: there are {held()}")
    print(f"{options.count} turns")


if __name__ == "__main__":
    main()
