"""Directories that the kernel opens by itself: where there is a lane, OPENDIR is answered with ENOSYS, once."""

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from layerfs.fuse.config import ServeConfig
from layerfs.fuse.operations import Operations
from layerfs.fuse.prelude import ByHand
from layerfs.union import layers, readdir
from tests.fuse.slow import NAMES, Slow, running
from tests.host import require
from tests.oracle.trees import directory, file
from tests.union.box import Box
from tests.waiting import PATIENCE

DIRECTORIES = 10
MANY = 100  # more than are answered before there is a lane
LARGE = 1000  # names; with steps of 50, no moment is enough to load them


def note(path: Path, handler: Callable[..., object]) -> Callable[..., object]:
    """Return a handler that notes each call by one more byte of a file, in whatever process it is."""

    def noting(*args: object) -> object:
        with open(path, "ab") as calls:
            calls.write(b"x")
        return handler(*args)

    return noting


@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize("read_only", [False, True])
def test_nobody_is_asked_to_open_or_close_a_directory(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, lane: str, read_only: bool, session: bool
) -> None:
    require("fuse")
    tree = {b"f": file(b"1")} | {b"d%d/f" % number: file(b"") for number in range(DIRECTORIES)}
    calls = {name: scratch / name for name in ("opendir", "releasedir")}
    for name, path in calls.items():
        path.touch()
        for owner in (ByHand, Operations):
            monkeypatch.setattr(owner, name, note(path, getattr(owner, name)))
    box = Box(scratch, tree, writable=not read_only)
    config = ServeConfig(b"", read_only=read_only)
    mount = Slow(box, scratch / "m", scratch / "imported", monkeypatch, begins="needed", config=config)
    with running(mount):
        if session and not read_only:  # there an fsync of a directory is nothing
            mount.enter_session("f")
        for _ in range(3):
            for number in range(DIRECTORIES):
                assert os.listdir(mount.target / f"d{number}") == ["f"]
        assert mount.end() == 0
    opened, closed = (path.stat().st_size for path in calls.values())
    if lane == "lane":
        assert (opened, closed) == (1, 0)
    else:
        assert opened >= 3 * DIRECTORIES and closed  # the last RELEASEDIRs may come too late


@pytest.mark.parametrize("lane", ["lane"], indirect=True)
@pytest.mark.parametrize("session", [False, True])
def test_the_lane_lists_a_directory_as_soon_as_it_is_asked_for(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, lane: str, session: bool
) -> None:
    """Whatever the union lists becomes its own, and is answered for by it from then on."""
    require("fuse")

    async def readdir(*_: object) -> None:
        raise ZeroDivisionError

    for owner in (ByHand, Operations):
        monkeypatch.setattr(owner, "readdir", readdir)
    names = {b"d/%d" % number: file(b"1") for number in range(NAMES)}
    box = Box(scratch, {b"f": file(b"1"), b"empty": directory()}, names)
    with running(Slow(box, scratch / "m", scratch / "imported", monkeypatch, begins="needed")) as mount:
        if session:
            mount.enter_session("f")
        assert len(os.listdir(mount.target / "d")) == NAMES
        assert os.listdir(mount.target / "empty") == []
        assert sorted(os.listdir(mount.target)) == ["d", "empty", "f"]
        assert mount.end() == 0


@pytest.mark.parametrize("session", [False, True])
def test_what_the_kernel_keeps_since_the_prelude_is_dropped_when_it_changes(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, session: bool
) -> None:
    """The lane comes after dozens of requests; listings are kept from the first one on."""
    require("fuse")
    monkeypatch.delenv("LAYERFS_LANE", raising=False)
    tree = {b"f": file(b"1"), b"a/moved/x": file(b""), b"b/y": file(b"")}
    tree |= {b"many/%d" % number: file(b"1") for number in range(MANY)}
    config = ServeConfig(b"", lane=True)
    mount = Slow(Box(scratch, tree), scratch / "m", scratch / "imported", monkeypatch, begins="needed", config=config)
    with running(mount):
        place = mount.target
        for _ in range(2):
            assert sorted(os.listdir(place)) == ["a", "b", "f", "many"]
            assert (os.listdir(place / "a"), os.listdir(place / "a/moved")) == (["moved"], ["x"])
        os.rename(place / "a/moved", place / "b/moved")
        os.unlink(place / "f")
        (place / "g").write_bytes(b"2")
        assert subprocess.check_output(["ls", "-ia", place / "b/moved"], timeout=PATIENCE).split()[2:4] == [
            b"%d" % os.stat(place / "b").st_ino, b"..",
        ]  # fmt: skip
        for name in os.listdir(place / "many"):
            (place / "many" / name).read_bytes()
        if session:
            mount.enter_session("g")
        for _ in range(2):
            assert (sorted(os.listdir(place / "b")), os.listdir(place / "a")) == (["moved", "y"], [])
            assert sorted(os.listdir(place)) == ["a", "b", "g", "many"]
        assert mount.end() == 0


@pytest.mark.parametrize("session", [False, True])
def test_a_directory_that_was_exchanged_below_is_found_anew(never: Slow, session: bool) -> None:
    """The layers may not change; if they do, the names of the one are not taken for those of the other."""
    path, below = never.target / "d", never.target.parent / "l2"
    path.stat()
    (below / "new").mkdir()
    (below / "new/other").touch()
    (below / "d").rename(below / "old")
    (below / "new").rename(below / "d")
    if session:
        never.enter_session("top")
    try:
        found = os.listdir(path)
    except OSError as error:  # the kernel had opened it before anybody looked
        assert error.errno == errno.ESTALE
        found = os.listdir(path)
    assert found == ["other"]
    assert never.end() == 0


@pytest.mark.parametrize("session", [False, True])
def test_a_large_directory_is_listed_whole_by_those_who_read_it_at_once(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, lane: str, session: bool
) -> None:
    require("fuse")
    monkeypatch.setattr(readdir, "STEP", 50)
    monkeypatch.setattr(layers, "AT_ONCE", 50)
    box = Box(scratch, {b"f": file(b"1")}, {b"large/%d" % number: file(b"") for number in range(LARGE)})
    with running(Slow(box, scratch / "m", scratch / "imported", monkeypatch, begins="needed")) as mount:
        if session:
            mount.enter_session("f")
        else:
            mount.imported()
        command = ["ls", "-U", os.fspath(mount.target / "large")]
        clients = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
        for client in clients:
            shown, _ = client.communicate(timeout=PATIENCE)
            assert sorted(map(int, shown.split())) == list(range(LARGE))
        assert mount.end() == 0
