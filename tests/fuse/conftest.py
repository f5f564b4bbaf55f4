"""A directory of small files, as a union has it; a mount that is still in its prelude."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from layerfs.model import Stack
from layerfs.union.inodes import Directory
from layerfs.union.options import UnionOptions
from layerfs.union.union import Union
from tests.fuse.slow import NAMES, Slow, running
from tests.host import require
from tests.oracle.trees import directory, file
from tests.union.box import Box

FILES = 60
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Directory]:
    """The root of a union of one layer of FILES files, its listing loaded."""
    for number in range(FILES):
        (tmp_path / f"f{number:02}").write_bytes(b"data")
    with closing(Union.open(Stack((os.fsencode(tmp_path),)), UnionOptions())) as union:
        union.names(1)
        yield union.root()


@pytest.fixture(params=["lane", "nolane"])
def lane(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the servers of the test answer natively, from the first request on."""
    monkeypatch.setenv("LAYERFS_LANE", "1" if request.param == "lane" else "0")
    return str(request.param)


@pytest.fixture
def slow(scratch: Path, monkeypatch: pytest.MonkeyPatch, lane: str) -> Iterator[Slow]:
    """A mount whose import has begun, and ends when the test says so."""
    with _slow(scratch, monkeypatch, "first") as mount:
        yield mount


@pytest.fixture
def never(scratch: Path, monkeypatch: pytest.MonkeyPatch, lane: str) -> Iterator[Slow]:
    """A mount that imports nothing before it must, and is through with that when the test says so."""
    with _slow(scratch, monkeypatch, "needed") as mount:
        yield mount


@contextmanager
def _slow(scratch: Path, monkeypatch: pytest.MonkeyPatch, begins: str) -> Iterator[Slow]:
    require("fuse")
    many = {b"many": directory()} | {b"many/%03d" % number: file(b"") for number in range(NAMES)}
    box = Box(scratch, {b"top": file(b"1")}, {b"low": file(b"two"), b"d": directory(), b"d/e": file(b"")} | many)
    os.symlink("low", scratch / "l2/link")
    os.setxattr(scratch / "l2/low", "user.word", b"value")
    with running(Slow(box, scratch / "m", scratch / "imported", monkeypatch, begins=begins)) as mount:
        yield mount


@pytest.fixture
def pair() -> Iterator[Pair]:
    """The kernel's end and the device's."""
    kernel, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with kernel, device:
        yield kernel, device
