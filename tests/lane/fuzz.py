"""Requests, answers and tables made at random, many of them damaged: `python -m tests.lane.fuzz PLACE [MODULE]`.

PLACE is a directory to work in. MODULE is a build of the extension to use in the place of the installed one.
"""

import argparse
import os
import random
import shutil
import struct
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from layerfs.lane.events import Durable, LaneEdit, LaneEvent
from tests.sanitized import use

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerfs.lane.events import Edited
    from tests.lane.libfuse import Libfuse
    from tests.lane.rig import Rig

MODULE = "layerfs.lane._lane"
OPCODES = (1, 2, 3, 4, 5, 6, 9, 10, 12, 14, 15, 16, 18, 21, 22, 24, 27, 28, 30, 35, 36, 42, 44, 45, 99, 0, 2**32 - 1)
PLACES = (0, 1, 2, 0x40000000, 0x40000001, 0x7FFFFFFF, 0x7FFFFFFE, 2**32 - 1)


class Fuzz:
    """One lane, and what it has been told so far."""

    def __init__(self, rig: "Rig", place: Path, dice: random.Random) -> None:
        self.rig, self.place, self.dice = rig, place, dice
        self.names = [b"f%d" % number for number in range(12)] + [b"l%d" % number for number in range(4)]
        self.numbers = [1, 2, 3, 4, *(3 << 49 | (place / os.fsdecode(name)).lstat().st_ino for name in self.names)]
        self.share = os.open(place, os.O_RDONLY)
        self.mode = place.stat().st_mode
        rig.fds.append(self.share)
        rig.lane.rank(place.stat().st_dev, 3)
        self.upper, scratch = (os.open(place / name, os.O_RDONLY) for name in ("upper", "scratch"))
        rig.fds += [self.upper, scratch]
        rig.lane.change_files(scratch, Durable.VOLATILE, "user.number", writeback=True)
        rig.lane.edited = self.edited
        self.directories: dict[int, int] = {}  # that the lane has made: the descriptor of each
        self.tells: list[Callable[[], object]] = []  # more than `tell` has
        from tests.lane.sources import FIRST, Source

        self.source = Source(place, self.names)
        known = rig.lane.source(self.source.calls, 4)
        assert known is not None
        self.foreign = known[0]
        self.numbers += [4 << 49 | FIRST + index for index in range(len(self.names))]
        self.source.has_xattrs = {self.names[0]}

    def edited(self, edit: "Edited") -> None:
        """Take a new file in; it goes again, also while it is open."""
        if edit.kind is LaneEdit.MADE_DIRECTORY:
            self.made(edit)
        if edit.kind in (LaneEdit.MADE_DIRECTORY, LaneEdit.SET):
            return
        assert edit.directory < 5 or edit.directory in self.directories
        path = self.place / "upper" / os.fsdecode(edit.name)
        if edit.kind is not LaneEdit.MADE or not os.path.lexists(path):  # it was renamed since, in the same wait
            return
        first = 4 + 2 * len(self.names)  # of those that were made, of which the last four are asked for
        self.numbers[first:] = [*self.numbers[first:][-3:], 3 << 49 | path.lstat().st_ino]
        if self.dice.random() < 0.5:
            path.unlink()

    def made(self, edit: "Edited") -> None:
        """Take a new directory in; three stay, and what was made in the others goes with them."""
        if edit.fd < 0:
            return
        self.directories[edit.number] = edit.fd
        self.rig.fds.append(edit.fd)
        while len(self.directories) > 3:
            number = self.dice.choice(list(self.directories))
            if self.dice.random() < 0.5:
                self.rig.lane.drop(number)
            else:
                self.rig.lane.share(number, 0, -1)
            fd = self.directories.pop(number)
            self.rig.fds.remove(fd)
            os.close(fd)
        if self.dice.random() < 0.5:
            shutil.rmtree(self.place / "upper" / os.fsdecode(edit.name), ignore_errors=True)

    def number(self) -> int:
        if self.directories and self.dice.random() < 0.2:
            return self.dice.choice(list(self.directories))
        return self.dice.choice(self.numbers) if self.dice.random() < 0.97 else self.dice.getrandbits(64)

    def name(self) -> bytes:
        return (
            self.dice.choice(self.names) if self.dice.random() < 0.9 else self.dice.randbytes(self.dice.randrange(300))
        )

    def body(self, opcode: int) -> bytes:
        word = [self.number(), self.dice.choice((0, 1, 2, 3, 7, 20, 2**63, 2**64 - 1)), self.number()]
        bodies = {
            1: self.name() + b"\0",
            9: struct.pack("=II", 0o755, self.dice.choice((0, 0o22, 2**32 - 1)))
            + self.dice.choice((b"dir", b"old", b"..", b"a/b", self.name()))
            + b"\0",
            10: self.name() + b"\0",
            2: struct.pack("=Q", self.dice.choice((0, 1, 2, 2**64 - 1))),
            12: struct.pack("=Q", self.dice.randrange(1, 5)) + self.name() + b"\0" + self.name() + b"\0",
            45: struct.pack("=QII", self.dice.randrange(1, 5), self.dice.choice((0, 1, 2, 4)), 0)
            + self.name()
            + self.dice.choice((b"\0new\0", b"\0\0", b"\0")),
            14: struct.pack("=II", self.dice.choice((0, 0, 0, 1, 2, os.O_TRUNC, 1 | os.O_TRUNC)), 0),
            15: struct.pack(
                "=QQIIQII",
                self.dice.choice((word[0], 0)),
                word[1],
                self.dice.choice((0, 10, 4096, 70000, 2**32 - 1)),
                0,
                0,
                0,
                0,
            ),
            16: struct.pack("=QQIIQII", word[0], word[1], self.dice.choice((4, 4, 4, 0, 5, 2**32 - 1)), 0, 0, 0, 0)
            + b"data",
            4: struct.pack(
                "=I4xQQQ", self.dice.choice((32, 32, 1 << 10 | 32, 33, 1, 8, 6, 48, 432)), word[0], word[1] % 99999, 0
            )
            + struct.pack("=QQQIII", 5, word[1], 7, 0, self.dice.choice((0, 1, 10**9)), 0)
            + struct.pack("=IIIII", self.dice.choice((0o100644, 0o104755, 0)), 0, os.getuid(), os.getgid(), 0),
            6: self.name() + self.dice.choice((b"\0to\0", b"\0", b"\0\0", b"\0to")),
            21: struct.pack("=II", self.dice.choice((28, 28, 4, 2**32 - 1)), self.dice.choice((0, 0, 1)))
            + b"system.posix_acl_access\0"
            + struct.pack("=IHHIHHIHHI", 2, 1, 6, 2**32 - 1, 4, 4, 2**32 - 1, 32, 4, 2**32 - 1),
            24: b"system.posix_acl_default\0",
            22: struct.pack("=II", 20, 0)
            + self.dice.choice((b"security.capability", b"user.x", b"user.", b"", b"user.overlay.x"))
            + b"\0",
            28: struct.pack(
                "=QQIIQII", self.dice.choice((9, 0)), word[1], self.dice.choice((0, 30, 4096, 2**32 - 1)), 0, 0, 0, 0
            ),
            35: struct.pack("=IIII", os.O_RDWR, 0o100644, self.dice.choice((0, 0o22, 2**32 - 1)), 0)
            + self.dice.choice((b"new", b"old", b".wh.x", b"..", b"a/b", self.name()))
            + b"\0",
            30: struct.pack("=QII", self.dice.choice((9, 0)), 0, 0),
            42: struct.pack("=II", self.dice.choice((0, 1, 2, 2, 2, 3, 2**32 - 1)), 0)
            + struct.pack("=QQQQ", word[0], 1, word[2], self.dice.choice((1, 2**64 - 1))),
        }
        bodies[44] = bodies[28]
        body = bodies.get(opcode, bytes(24))
        if self.dice.random() < 0.1:
            body = self.dice.choice((body[: self.dice.randrange(len(body) + 1)], body + b"xx", self.dice.randbytes(40)))
        return body

    def ask(self) -> None:
        from tests.lane.rig import HEADER

        opcode = self.dice.choice(OPCODES)
        if self.dice.random() < 0.95:
            self.rig.request(opcode, self.number(), self.body(opcode), self.dice.randrange(2))
        else:
            message = bytearray(HEADER.pack(self.dice.randrange(200), opcode, 8, self.number(), 0, 0, 0, 0, 0))
            self.rig.kernel.send(bytes(message[: self.dice.randrange(1, 41)]) + self.body(opcode))
        event = self.rig.step()
        while event == LaneEvent.LIST:
            number = self.rig.lane.listing()
            if self.dice.random() < 0.5:
                self.rig.lane.directory(number, 1, self.names, [0] * len(self.names), [self.share, self.upper])
            event = self.rig.step()
        if event == LaneEvent.WRITE:
            assert len(self.rig.lane.writing()[2]) in (0, 4)
            if self.dice.random() < 0.7:
                self.rig.lane.written(self.dice.choice((0, 28)), self.dice.choice((0, 4)))
            event = self.rig.step()
        if event == LaneEvent.REQUEST:
            self.pass_on()

    def pass_on(self) -> None:
        self.reply(self.rig.passed() or b"")

    def reply(self, request: bytes) -> None:
        from tests.lane.rig import REPLY

        unique = int.from_bytes(request[8:16], "little")
        body = self.dice.choice((struct.pack("=QIi", 9, 0, 0), b"", self.dice.randbytes(30)))
        message = REPLY.pack(16 + len(body), 0, unique) + body
        if self.dice.random() < 0.1:
            message = self.dice.choice((message[: self.dice.randrange(1, len(message) + 1)], self.dice.randbytes(20)))
        self.rig.libfuse.send(message)

    def tell(self) -> None:
        lane, number = self.rig.lane, self.number()
        names = self.dice.sample(self.names, self.dice.randrange(len(self.names)))
        if self.dice.random() < 0.1:
            names.append(self.dice.choice((b"", b"x" * 256, b"a\0b", b"x" * 255)))
        places = [self.dice.choice(PLACES[:1] if self.dice.random() < 0.8 else PLACES) for _ in names]
        with suppress(OSError):
            self.dice.choice(
                (
                    lambda: lane.directory(self.dice.randrange(1, 5), 1, names, places, [self.share, self.upper]),
                    lambda: self.hand_over(names, places),
                    lambda: lane.drop(self.dice.randrange(1, 5)),
                    lambda: lane.change(self.dice.randrange(1, 5), self.name(), self.dice.choice(PLACES)),
                    lambda: lane.top(
                        self.dice.randrange(1, 5),
                        self.dice.choice((0, 1, 1, 1, 7, 2**32 - 1)),
                        single=False,
                        makes=self.dice.random() < 0.7,
                        mode=self.mode,
                        uid=os.getuid(),
                        gid=os.getgid(),
                        reference=self.reference(),
                    ),
                    lambda: lane.relist(self.dice.randrange(1, 5)),
                    lambda: lane.share(self.dice.randrange(1, 5), 0, self.share),
                    lambda: lane.share(self.dice.randrange(1, 5), self.dice.randrange(1, 4), self.upper),
                    lambda: lane.claim(number),
                    lambda: lane.disclaim(number),
                    self.take,
                    lambda: lane.children(self.dice.randrange(1, 5)),
                    self.ahead,
                    lane.emptied,
                    lambda: setattr(lane, "opens", self.dice.random() < 0.7),
                    lane.slow,
                    *self.tells,
                )
            )()

    def reference(self) -> int:
        return self.dice.choice((self.dice.randrange(len(self.names)), self.dice.randrange(99), 2**64 - 1))

    def hand_over(self, names: list[bytes], places: list[int]) -> None:
        """Hand over a directory that has a source, and now and then something that is none."""
        share = self.foreign if self.dice.random() < 0.9 else self.dice.choice((-3, -99, -(2**31)))
        shares = [share, self.upper] if self.dice.random() < 0.8 else [self.share, share]
        references = [self.names.index(name) if name in self.names else self.reference() for name in names]
        if self.dice.random() < 0.1:
            references = [self.reference() for _ in names]
        self.source.link_length = self.dice.choice((0, 0, 1, 4096))
        self.rig.lane.directory(self.dice.randrange(1, 5), 1, names, places, shares, references)

    def ahead(self) -> None:
        directory, first = self.dice.randrange(1, 5), self.dice.choice((0, 1, 2, 2**32 - 9))
        for position in range(first, first + self.dice.randrange(1, 8)):
            self.rig.lane.ahead(directory, position, waited=self.dice.random() < 0.8)

    def take(self) -> None:
        taken = self.rig.lane.take(self.number())
        if taken is not None and taken.fd >= 0:
            os.close(taken.fd)
        if taken is not None:
            name = taken.name if self.dice.random() < 0.9 else self.name()[:255]
            self.rig.lane.give(taken._replace(name=name, lookups=self.dice.choice((0, 1, 5, 2**32 - 1, 2**64 - 1))))

    def run(self, count: int) -> None:
        for _ in range(count):
            (self.ask if self.dice.random() < 0.8 else self.tell)()
            self.drain()

    def drain(self) -> None:
        while self.rig.answer() is not None:
            pass


class InMemory(Fuzz):
    """Requests for others are taken and answered in memory, whole or not, at once, late, twice or never."""

    BIG = bytes(1 << 20)  # more than the device takes

    def __init__(self, rig: "Rig", place: Path, dice: random.Random, libfuse: "Libfuse") -> None:
        super().__init__(rig, place, dice)
        self.libfuse = libfuse
        self.asked: list[int] = []  # the numbers of requests that are not answered
        self.tells.append(self.hold)

    def hold(self) -> None:
        """Hand over requests that were read before; some are larger than a message may be, or no request."""
        from tests.lane.rig import HEADER

        opcode, room = self.dice.choice((5, 27, 2, 36)), self.dice.choice((0, 100, 1 << 17))
        message = HEADER.pack(HEADER.size + room, opcode, self.dice.randrange(2, 200, 2), 9, 0, 0, 0, 0, 0) + bytes(
            room
        )
        self.rig.lane.hold([message if self.dice.random() < 0.8 else message[: self.dice.randrange(41)]])

    def pass_on(self) -> None:
        if self.dice.random() < 0.1:
            return  # it stays where it is
        request = self.libfuse.read(self.dice.choice((1 << 16, 1 << 16, 1 << 16, 100, 39, 0)))
        if request is not None and len(request) >= 16:
            self.asked.append(int.from_bytes(request[8:16], "little"))
        while self.asked and self.dice.random() < 0.6:
            self.reply(b"")
        if self.dice.random() < 0.3 and self.rig.step() == LaneEvent.REQUEST:
            self.pass_on()

    def reply(self, request: bytes) -> None:
        from tests.lane.rig import REPLY

        del self.asked[:-20]
        unique = self.asked.pop(self.dice.randrange(len(self.asked)))
        if self.dice.random() < 0.1:
            unique = self.dice.choice((0, 1, unique | 1, self.dice.getrandbits(64)))
        body = self.dice.choice((struct.pack("=QIi", 9, 0, 0), b"", self.dice.randbytes(30), self.BIG))
        head = REPLY.pack(16 + len(body), self.dice.choice((0, 0, -13)), unique)
        cut = self.dice.randrange(17)
        ways: tuple[list[bytes], ...] = (
            [head, body],
            [head, body],
            [head],
            [head, body[:cut], body[cut:]],
            [head[:cut], body],
            [],
        )
        self.libfuse.write(self.dice.choice(ways))

    def drain(self) -> None:
        with suppress(BlockingIOError):
            while self.rig.kernel.recv(1 << 16):
                pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("place", type=Path)
    parser.add_argument("module", nargs="?")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=20_000)
    options = parser.parse_args()
    if options.module:
        use(MODULE, options.module)
    for name in ("upper", "scratch"):
        (options.place / name).mkdir(exist_ok=True)
    with suppress(FileExistsError):
        os.mknod(options.place / "scratch" / "whiteout", 0o20000, 0)
    for number in range(12):
        (options.place / f"f{number}").write_bytes(b"x" * (number * 700))
    for number in range(4):
        with suppress(FileExistsError):
            (options.place / f"l{number}").symlink_to("target")
    before = len(os.listdir("/proc/self/fd"))
    met = sum(run(way, options.place, random.Random(options.seed), options.count // 3) for way in WAYS)
    assert len(os.listdir("/proc/self/fd")) == before, "descriptors are left"
    print(f"{met} requests")


WAYS = ("pair", "pair, files that nobody opens", "memory")


def run(way: str, place: Path, dice: random.Random, count: int) -> int:
    """Ask and tell a lane of its own; returns how many requests there were."""
    from tests.lane.libfuse import FD, Libfuse
    from tests.lane.rig import Rig

    with Rig(files=4) as rig, closing(Libfuse()) as libfuse:
        if way == "pair":
            Fuzz(rig, place, dice).run(count)
        elif way == "memory":
            assert rig.lane.in_memory(FD)
            InMemory(rig, place, dice, libfuse).run(count)
        else:
            rig.lane.no_open()
            Fuzz(rig, place, dice).run(count)
        return rig.lane.met


if __name__ == "__main__":
    main()
