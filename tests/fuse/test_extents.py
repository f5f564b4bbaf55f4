"""Holes of files in images, and copies out of them; tests/semantics/test_extents.py has the rest, on a mount."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from layerfs.fuse import extents, wire
from layerfs.fuse.config import ServeConfig
from layerfs.fuse.extents import Extents
from layerfs.fuse.flushing import Flusher
from layerfs.fuse.operations import Operations
from layerfs.fuse.threads import Threaded
from layerfs.fuse.wire import ClientIds, Opcode, Request
from layerfs.lowers.kinds import open_tree
from layerfs.model import Stack
from layerfs.union.options import UnionOptions
from layerfs.union.union import Union
from tests.fuse.test_operations import ROOT, ino_of
from tests.lowers.packing import BLOCK, pack

CLIENT = ClientIds(0, 0, 0)
CONTENT = bytes(3 * BLOCK) + b"data" * BLOCK + bytes(5 * BLOCK)


@pytest.fixture
def ops(scratch: Path) -> Iterator[Any]:
    tree = scratch / "tree"
    tree.mkdir()
    (tree / "f").write_bytes(CONTENT)
    for name in ("u", "w"):
        (scratch / name).mkdir()
    stack = Stack((pack(tree),), os.fsencode(scratch / "u"), os.fsencode(scratch / "w"))
    with closing(Union.open(stack, UnionOptions(), open_tree=open_tree)) as union:
        yield Operations(union, ServeConfig(mountpoint=b"/nowhere"))


async def test_an_image_is_copied_out_of_and_its_holes_are_found(ops: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extents, "FROM_IMAGE", 10_000)
    served = Extents(ops, Threaded(), Flusher(b"/nowhere").flush)
    ino = await ino_of(ops, b"f")
    source = await ops.open(ino, os.O_RDONLY, ROOT)

    async def seek(offset: int, whence: int) -> int:
        body = wire.LSEEK_REQUEST.pack(source.fh, offset, whence)
        return int(*wire.NUMBER.unpack(await served.lseek(Request(Opcode.LSEEK, 2, ino, body), CLIENT)))

    assert await seek(0, os.SEEK_DATA) == await seek(BLOCK + 1, os.SEEK_DATA) == 3 * BLOCK
    assert await seek(7, os.SEEK_HOLE) == 7
    assert await seek(3 * BLOCK + 5, os.SEEK_HOLE) == 7 * BLOCK
    assert await seek(3 * BLOCK + 5, os.SEEK_DATA) == 3 * BLOCK + 5
    for offset, whence in ((8 * BLOCK, os.SEEK_DATA), (12 * BLOCK, os.SEEK_HOLE), (-1, os.SEEK_DATA), (0, 0)):
        with pytest.raises(OSError):
            await seek(offset, whence)

    to, _ = await ops.create(1, b"copy", 0o644, os.O_RDWR, ROOT)
    done = 0
    while True:
        body = wire.COPY_REQUEST.pack(source.fh, done, to.fh, to.fh, done, 1 << 30, 0)
        (count,) = wire.WRITE_REPLY.unpack(await served.copy(Request(Opcode.COPY_FILE_RANGE, 2, ino, body), CLIENT))
        if not count:
            break
        done += count
    assert bytes(await ops.read(to.fh, 0, len(CONTENT) + 1)) == CONTENT
    with pytest.raises(OSError):
        await served.copy_64(Request(53, 2, ino, wire.COPY_REQUEST.pack(source.fh, 0, to.fh, to.fh, 0, 1, 1)), CLIENT)
