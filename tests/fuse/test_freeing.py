"""The last close of what was removed: large files in a thread, all closed at the end."""

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pyfuse3 import RequestContext

from layerfs.fuse import threads
from layerfs.fuse.config import ServeConfig
from layerfs.fuse.freeing import Freeing
from layerfs.fuse.operations import Operations
from layerfs.union import opened
from layerfs.union.data import MUCH
from layerfs.union.opened import Handle
from tests.oracle.trees import file
from tests.union.box import Box


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError as error:
        assert error.errno == errno.EBADF
        return False
    return True


@pytest.mark.parametrize(("size", "here"), [(MUCH - 4096, True), (MUCH, False)])
def test_only_what_frees_much_is_worth_a_thread(tmp_path: Path, size: int, here: bool) -> None:
    (tmp_path / "file").write_bytes(os.urandom(size))
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    with closing(Freeing()) as all_of_them:
        all_of_them.close_last(fd)
        assert (all_of_them._thread is None) == here
        if here:
            assert not is_open(fd)
    assert not is_open(fd)


def test_a_large_hole_is_closed_here(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as hole:
        hole.truncate(MUCH * 100)
    with closing(Freeing()) as all_of_them:
        fd = os.open(tmp_path / "file", os.O_RDONLY)
        all_of_them.close_last(fd)
        assert not is_open(fd)


@pytest.fixture
def box(scratch: Path) -> Iterator[Box]:
    with Box(scratch, {}, upper={b"large": file(bytes(MUCH)), b"small": file(bytes(MUCH - 1))}) as box:
        yield box


@pytest.mark.parametrize(("name", "in_thread"), [(b"large", True), (b"small", False)])
async def test_a_file_that_loses_much_is_shortened_in_a_thread(
    box: Box, monkeypatch: pytest.MonkeyPatch, name: bytes, in_thread: bool
) -> None:
    """Its filesystem stopped everybody until the blocks were free."""
    ran: list[object] = []
    real = threads.run

    async def run(function: Any, *args: Any) -> Any:
        ran.append(function)
        return await real(function, *args)

    monkeypatch.setattr(threads, "run", run)
    operations: Any = Operations(box.union, ServeConfig(b"/nowhere"))
    context = RequestContext()
    entry = await operations.lookup(1, name, context)
    ino = entry.st_ino
    fields = _Size()
    entry.st_size = 0
    assert (await operations.setattr(ino, entry, fields, None, context)).st_size == 0
    assert (os.ftruncate in ran) == in_thread
    ran.clear()
    os.truncate(os.path.join(box.upper, name), MUCH if in_thread else MUCH - 1)
    await operations.open(ino, os.O_WRONLY | os.O_TRUNC, context)
    assert (os.ftruncate in ran) == in_thread
    assert box.union.attributes(ino).st_size == 0
    box.union.release(ino)
    box.union.forget(ino, 1)
    operations.close()


class _Size:
    """What the kernel sends for truncate(2); SetattrFields cannot be set from Python."""

    update_size = True
    update_mode = update_uid = update_gid = update_atime = update_mtime = update_ctime = False


def test_a_removed_file_is_closed_by_the_front_end(box: Box) -> None:
    closed: list[Handle] = []

    def close(handle: Handle) -> None:
        closed.append(handle)
        opened.close(handle)

    box.union.close_by(close)
    with box.node(b"large") as node:
        box.unlink(b"large")
        assert not closed
        held = node.extra.pinned  # type: ignore[attr-defined]
    assert closed == [held]
