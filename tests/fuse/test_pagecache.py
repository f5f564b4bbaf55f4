"""Data that come with the first open: what the kernel then shows is what the lower holds, and no READ was needed."""

import os
from pathlib import Path

import pytest

from layerfs.fuse.pagecache import PageCache
from layerfs.fuse.stream import FEED
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
