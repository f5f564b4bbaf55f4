"""A full upper is told by write(2), not by a close(2) that nobody looks at."""

import errno
import mmap
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.fuse import space
from layerfs.fuse.space import ENOUGH, Space, is_nearly_full
from tests.host import BIN, require
from tests.oracle.trees import file
from tests.union.box import Box
from tests.waiting import PATIENCE

BLOCK = b"x" * (64 << 10)


@pytest.fixture(params=[16 << 20, ENOUGH + (64 << 20)], ids=["small", "filled"])
def mount(scratch: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A mount whose upper is small, or is filled up once it is mounted."""
    require("root", "fuse")
    for name in ("lower", "disk", "m"):
        (scratch / name).mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={request.param}", "disk", scratch / "disk"], check=True)
    for name in ("upper", "work"):
        (scratch / "disk" / name).mkdir()
    stack: list[str | Path] = [
        scratch / "lower",
        scratch / "m",
        "--upper",
        scratch / "disk/upper",
        "--work",
        scratch / "disk/work",
    ]
    subprocess.run([BIN / "layerfs", "mount", "--driver", "fuse", *stack], check=True, timeout=PATIENCE)
    if request.param > ENOUGH:
        (scratch / "m/absent").exists()
        with (scratch / "disk/ballast").open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, request.param - (16 << 20))
    yield scratch / "m"
    subprocess.run([BIN / "layerfs", "umount", scratch / "m"], check=True, timeout=PATIENCE)


def test_write_says_that_the_upper_is_full(mount: Path) -> None:
    fd, written = os.open(mount / "new", os.O_WRONLY | os.O_CREAT), 0
    try:
        with pytest.raises(OSError) as caught:
            while written < 64 << 20:
                written += os.write(fd, BLOCK)
        assert caught.value.errno == errno.ENOSPC
    finally:
        os.close(fd)
    assert (mount / "new").stat().st_size == written
    assert (mount / "new").read_bytes() == b"x" * written


def test_nothing_stands_behind_what_write_acknowledged(mount: Path) -> None:
    """The request that failed had written whole pages, and an append that went on later came after them."""
    fd, written = os.open(mount / "new", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 0
    try:
        with pytest.raises(OSError) as caught:
            while written < 64 << 20:
                written += os.write(fd, BLOCK[: 11_999 + written % 7])
        assert caught.value.errno == errno.ENOSPC
        assert os.fstat(fd).st_size == os.stat(mount.parent / "disk/upper/new").st_size == written
    finally:
        os.close(fd)


def test_files_can_still_be_mapped(mount: Path) -> None:
    fd = os.open(mount / "new", os.O_RDWR | os.O_CREAT)
    try:
        os.write(fd, BLOCK)
        with mmap.mmap(fd, len(BLOCK)) as mapped:
            mapped[:3] = b"new"
            mapped.flush()
        assert os.pread(fd, 4, 0) == b"newx"
    finally:
        os.close(fd)


def test_room_is_looked_at_now_and_then(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, looks = [100.0], []
    monkeypatch.setattr(space, "monotonic", lambda: clock[0])
    monkeypatch.setattr(space, "is_nearly_full", lambda union: looks.append(union) or len(looks) > 1)  # type: ignore[func-returns-value]
    with Box(scratch, {b"f": file(b"")}) as box:
        room = Space(box.union, matters=True)
        assert [room.is_short, room.is_short] == [False, False] and len(looks) == 1
        clock[0] += 1
        assert room.is_short
        assert not Space(box.union, matters=False).is_short


def test_what_cannot_be_written_is_never_full(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "ENOUGH", 1 << 60)
    with Box(scratch, {b"f": file(b"")}) as box:
        assert is_nearly_full(box.union)
    (scratch / "read-only").mkdir()
    with Box(scratch / "read-only", {b"f": file(b"")}, writable=False) as box:
        assert not is_nearly_full(box.union)
