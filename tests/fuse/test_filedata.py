"""The bytes of files, as pyfuse3 asks for them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from layerfs.fuse.config import ServeConfig
from layerfs.fuse.filedata import SMALL
from layerfs.fuse.operations import Operations
from tests.fuse.test_operations import ANNE, ROOT, ino_of
from tests.oracle.trees import file
from tests.union.box import Box

LARGE = bytes(range(256)) * (4 * SMALL // 256)


@pytest.fixture
def box(scratch: Path) -> Iterator[Box]:
    with Box(scratch, {b"f": file(b"data", 0o4755), b"large": file(LARGE)}) as box:
        yield box


@pytest.fixture
def ops(box: Box) -> Any:
    return Operations(box.union, ServeConfig(mountpoint=b"/nowhere"))


async def test_write_by_the_unprivileged_takes_setuid(ops: Any, box: Box) -> None:
    ino = await ino_of(ops, b"f")
    opened = await ops.open(ino, os.O_RDWR, ANNE)
    assert await ops.write(opened.fh, 0, b"D") == 1
    assert bytes(await ops.read(opened.fh, 0, 100)) == b"Data"
    await ops.fsync(opened.fh, False)
    await ops.release(opened.fh)
    assert (await ops.getattr(ino, ROOT)).st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("size", [1, SMALL, SMALL + 1, len(LARGE), len(LARGE) + 1])
async def test_any_range_is_read(ops: Any, size: int) -> None:
    opened = await ops.open(await ino_of(ops, b"large"), os.O_RDONLY, ROOT)
    for offset in (0, 1, len(LARGE) - 1, len(LARGE), len(LARGE) + 1):
        assert bytes(await ops.read(opened.fh, offset, size)) == LARGE[offset : offset + size]
    await ops.release(opened.fh)


async def test_readers_see_what_a_writer_writes_after_its_copy_up(ops: Any) -> None:
    ino = await ino_of(ops, b"large")
    reader = await ops.open(ino, os.O_RDONLY, ROOT)
    writer = await ops.open(ino, os.O_RDWR, ROOT)
    assert await ops.write(writer.fh, 5, b"new") == 3
    await trio.lowlevel.checkpoint()
    assert bytes(await ops.read(reader.fh, 4, 5)) == LARGE[4:5] + b"new" + LARGE[8:9]
    for handle in (reader, writer):
        await ops.release(handle.fh)
