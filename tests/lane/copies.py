"""A lower and an upper that a lane copies up to, for tests of what it changes."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.lane.events import Durable, Edited, LaneEvent
from tests.lane.rig import HOME, OPEN, READ, RENAME, RENAME2, WRITE, Rig, lookup, number_of

NAMES = [b"file", b"large", b"linked", b"marked", b"sparse", b"setuid", b"other"]
UPPER, ROOM = 1, 78  # the upper's share; the number of another directory
NUMBER = "user.number"


class Scene:
    """A lower, an upper and a scratch directory; a lane that knows a directory of both, and another of the upper."""

    def __init__(self, place: Path) -> None:
        self.lower, self.upper, self.scratch, self.room = (place / name for name in ("lower", "upper", "work", "room"))
        for each in (self.lower, self.upper, self.scratch, self.room):
            each.mkdir()
        (self.lower / "file").write_bytes(b"content")
        os.chmod(self.lower / "file", 0o640)
        os.utime(self.lower / "file", ns=(5, 7))
        (self.lower / "large").write_bytes(bytes(65537))
        (self.lower / "linked").write_bytes(b"x")
        os.link(self.lower / "linked", self.lower / "twin")
        (self.lower / "marked").write_bytes(b"x")
        os.setxattr(self.lower / "marked", "user.mark", b"1")
        (self.lower / "sparse").touch()
        os.truncate(self.lower / "sparse", 60000)
        (self.lower / "setuid").write_bytes(b"x")
        (self.lower / "setuid").chmod(0o4755)
        (self.lower / "other").write_bytes(b"other")
        self.rig = Rig()
        fds = [os.open(each, os.O_RDONLY) for each in (self.lower, self.upper, self.scratch, self.room)]
        self.rig.fds += fds
        lane = self.rig.lane
        lane.rank(self.lower.stat().st_dev, 3)
        assert lane.directory(HOME, 1, NAMES, [0] * len(NAMES), fds[:2])
        assert lane.directory(ROOM, 1, [], [], [-1, fds[3]])
        for number, directory in ((HOME, self.upper), (ROOM, self.room)):
            st = directory.stat()
            owner = {"mode": st.st_mode, "uid": st.st_uid, "gid": st.st_gid}
            lane.top(number, UPPER, single=False, makes=True, **owner)
        lane.change_files(fds[2], Durable.SYNCED, NUMBER, writeback=True)
        self.edits: list[Edited] = []
        lane.edited = self.edits.append

    def known(self, name: str) -> int:
        """The number of a file of the lower, which the kernel has looked up."""
        number, _ = lookup(self.rig, name.encode()) or (0, 0)
        assert number == number_of(self.lower / name)
        return number

    def open(self, number: int, flags: int = os.O_WRONLY, uid: int = 0) -> bool:
        return self.rig.ask(OPEN, number, struct.pack("=II", flags, 0), uid) is not None

    def write(self, number: int, offset: int, data: bytes) -> bool:
        body = struct.pack("=QQIIQII", number, offset, len(data), 1, 0, 0, 0) + data
        self.rig.request(WRITE, number, body)
        if self.rig.step() == LaneEvent.WRITE:
            self.rig.lane.written(5, 0)
            self.rig.answer()
            return False
        return self.rig.answer() is not None

    def read(self, number: int) -> bytes:
        found = self.rig.ask(READ, number, struct.pack("=QQIIQII", number, 0, 100, 0, 0, 0, 0))
        assert found is not None and found[0] == 0
        return found[1]

    def rename(self, old: bytes, new: bytes, to: int = HOME, flags: int | None = None) -> bool:
        names = old + b"\0" + new + b"\0"
        head = struct.pack("=Q", to) if flags is None else struct.pack("=QII", to, flags, 0)
        return self.rig.ask(RENAME if flags is None else RENAME2, HOME, head + names) is not None


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    try:
        yield scene
    finally:
        scene.rig.close()
