"""Files copied out of an image: every byte, holes as holes, and no more work than is stored."""

import os
import stat
from pathlib import Path

import pytest

from layerfs.pysquashfs import FileSpec, SquashfsError, SquashfsImage, WriteOptions, write_image, write_tree
from layerfs.pysquashfs.blockcache import BlockCache
from layerfs.pysquashfs.copying import copy_file
from tests.pysquashfs.images import noise, prose

BLOCK = 4096  # bytes
OPTIONS = WriteOptions(block_size=BLOCK)


def copied(image: Path, name: bytes, target: Path, size: int | None = None) -> bytes:
    """The bytes of a copy."""
    with SquashfsImage(image) as opened, BlockCache() as blocks, target.open("w+b") as file:
        copy_file(opened, opened.lookup(name), file.fileno(), blocks, size)
        return target.read_bytes() if target.stat().st_size < 1 << 30 else b""


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 7, 200 * BLOCK + 5])
def test_a_copy_has_every_byte(size: int, tmp_path: Path) -> None:
    data = (prose(size // 2, size) + noise(size))[:size]
    entries = [FileSpec(b"f", stat.S_IFREG, data=data), FileSpec(b"g", stat.S_IFREG, data=b"x")]
    write_image(tmp_path / "image", entries, OPTIONS)
    assert copied(tmp_path / "image", b"f", tmp_path / "copy") == data
    for part in (size // 3, size + 1, size + 2 * BLOCK):
        expected = data[:part].ljust(part, b"\0")
        assert copied(tmp_path / "image", b"f", tmp_path / "copy", part) == expected, part


def test_a_hole_of_terabytes_costs_nothing_and_stays_one(tmp_path: Path) -> None:
    """Each MiB of it was made of zeros and looked at."""
    (tmp_path / "tree").mkdir()
    with open(tmp_path / "tree/f", "wb") as file:
        file.truncate(1 << 42)
        file.seek(1 << 41)
        file.write(b"island")
    write_tree(tmp_path / "tree", tmp_path / "image", WriteOptions(block_size=1 << 20))
    copied(tmp_path / "image", b"f", tmp_path / "copy")
    with open(tmp_path / "copy", "rb") as copy:
        assert os.fstat(copy.fileno()).st_size == 1 << 42
        assert os.fstat(copy.fileno()).st_blocks <= 2 << 11
        assert os.pread(copy.fileno(), 8, 1 << 41) == b"island\0\0"


def test_a_block_that_is_too_short_is_an_error(tmp_path: Path) -> None:
    entries = [FileSpec(b"f", stat.S_IFREG, data=noise(BLOCK)), FileSpec(b"g", stat.S_IFREG, data=noise(BLOCK // 2, 1))]
    write_image(tmp_path / "image", entries, WriteOptions(block_size=BLOCK, fragments=False, compress_inodes=False))
    with SquashfsImage(tmp_path / "image") as image:
        data = bytearray((tmp_path / "image").read_bytes())
        short = next(iter(image.stored_pieces(image.lookup(b"g").ref)))
        at = image.superblock.inode_table + 2 + (image.lookup(b"f").ref & 0xFFFF)
    data[at + 16 : at + 20] = short.position.to_bytes(4, "little")
    data[at + 32 : at + 36] = short.stored.to_bytes(4, "little")
    (tmp_path / "image").write_bytes(data)
    with pytest.raises(SquashfsError, match="shorter than its file says"):
        copied(tmp_path / "image", b"f", tmp_path / "copy")
