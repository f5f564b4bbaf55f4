"""Data that come with the first open: what the kernel then shows is what the lower holds, and no READ was needed."""

import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pyfuse3 import RequestContext

from layerfs.fuse.config import ServeConfig
from layerfs.fuse.kept import Kept
from layerfs.fuse.operations import Operations
from layerfs.fuse.pagecache import PageCache
from layerfs.fuse.prefetch_data import FEED
from layerfs.lowers.file import ImageFile
from layerfs.lowers.kinds import open_tree
from layerfs.model import Stack
from layerfs.pysquashfs import write_tree
from layerfs.union.options import UnionOptions
from layerfs.union.union import Union
from tests.semantics.mounted import Mounted

SIZES = [1, 100, 4095, 4096, 4097, 9000, FEED - 1, FEED, FEED + 1, 200_000]


@pytest.mark.parametrize("size", SIZES)
def test_file_reads_as_it_is_on_disk(tmp_path: Path, size: int) -> None:
    stack, data = Mounted(tmp_path), os.urandom(size)
    lower = tmp_path / "l0"
    lower.mkdir()
    (lower / "f").write_bytes(data)
    stack.lowers.append(os.fsencode(lower))
    stack.mount()
    try:
        path = Path(os.fsdecode(stack / b"f"))
        assert path.read_bytes() == data
        with path.open("ab") as file:
            file.write(b"tail")
        assert path.read_bytes() == data + b"tail"
        assert (lower / "f").read_bytes() == data
    finally:
        stack.unmount()


def test_a_refusal_of_the_kernel_is_no_error() -> None:
    null = os.open("/dev/full", os.O_RDWR)
    try:
        pages = PageCache(null)
        pages.store(1, b"data")  # ENOSPC
        pages.close()
    finally:
        os.close(null)


class Stored(PageCache):
    """Notes how much would go to the kernel."""

    def __init__(self) -> None:
        self.stored: list[int] = []

    def store(self, ino: int, data: bytes | memoryview) -> None:
        self.stored.append(len(data))

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("size", "stored"), [(FEED, [FEED]), (FEED + 1, [])])
async def test_an_open_brings_small_files_of_an_image_and_looks_at_no_large_one(
    scratch: Path, size: int, stored: list[int]
) -> None:
    (scratch / "tree").mkdir()
    (scratch / "tree/file").write_bytes(os.urandom(size))
    write_tree(scratch / "tree", scratch / "image")
    pages = Stored()
    stack = Stack((os.fsencode(scratch / "image"),))
    with closing(Union.open(stack, UnionOptions(), open_tree=open_tree)) as union:
        operations: Any = Operations(union, ServeConfig(b"/nowhere"), Kept(union, pages))
        ino = (await operations.lookup(1, b"file", RequestContext())).st_ino
        await operations.open(ino, os.O_RDONLY, RequestContext())
        held = union.data_handle(ino)
        assert isinstance(held, ImageFile)
        assert (held._pieces is not None) == bool(stored)
        union.release(ino)
        operations.close()
    assert pages.stored == stored
