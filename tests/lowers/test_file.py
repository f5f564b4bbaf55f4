"""Files of images: every byte, from any thread, and holes as holes."""

import errno
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from layerfs.lowers.squash import SquashLower
from layerfs.pysquashfs import SquashfsImage
from layerfs.union import opened
from tests.lowers.packing import BLOCK, lower_of, pack


def read(tree: SquashLower, name: bytes, offset: int, size: int) -> bytes:
    handle = tree.open(tree.root(), name, os.O_RDONLY)
    data = handle.ready(offset, size)
    return bytes(handle.read(offset, size) if data is None else data)


@pytest.fixture
def files(tree: Path) -> Iterator[tuple[SquashLower, dict[bytes, bytes]]]:
    """An image with files of every make: none, fragments, whole blocks, tails, holes at every place."""
    chance = random.Random(0)
    sizes = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 7 * BLOCK + 11, 64 * BLOCK]
    content = {b"f%d" % size: chance.randbytes(size) for size in sizes}
    hole = bytes(3 * BLOCK)
    content |= {b"begins": hole + b"data" * 3000, b"ends": b"data" * 3000 + hole, b"wholly": hole * 100}
    content[b"amid"] = b"x" * BLOCK + hole + b"y" * BLOCK
    for name, data in content.items():
        (tree / os.fsdecode(name)).write_bytes(data)
    with closing(lower_of(pack(tree))) as lower:
        yield lower, content


def test_every_byte_is_read_at_every_place(files: tuple[SquashLower, dict[bytes, bytes]]) -> None:
    lower, content = files
    chance = random.Random(1)
    for name, data in content.items():
        assert read(lower, name, 0, len(data) + 10) == data
        for _ in range(50):
            offset, size = chance.randrange(len(data) + 2), chance.randrange(3 * BLOCK)
            assert read(lower, name, offset, size) == data[offset : offset + size]


def test_threads_read_side_by_side(files: tuple[SquashLower, dict[bytes, bytes]]) -> None:
    lower, content = files
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: read(lower, name, 0, 2 << 20), [*content] * 20))
    assert found == [*content.values()] * 20


def test_holes_stay_holes_in_a_copy(files: tuple[SquashLower, dict[bytes, bytes]], scratch: Path) -> None:
    lower, content = files
    for name, data in content.items():
        handle = lower.open(lower.root(), name, os.O_RDONLY)
        with open(scratch / "copy", "w+b") as target:
            opened.copy(handle, target.fileno(), len(data))
            target.seek(0)
            assert target.read() == data
            stored = os.fstat(target.fileno()).st_blocks * 512
        opened.close(handle)
        assert stored <= len(data.replace(bytes(BLOCK), b"")) + 2 * BLOCK, name


def test_a_corrupt_block_is_eio_and_a_line_in_the_log(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tree / "broken").write_bytes(random.Random(2).randbytes(BLOCK // 2) * 8)
    (tree / "well").write_bytes(b"w" * 9000)
    image = pack(tree, "-comp", "gzip")
    with SquashfsImage(image) as opened_image:
        position = opened_image.pieces(opened_image.lookup(b"broken").ref)[0].position
    with open(image, "r+b") as damaged:
        damaged.seek(position + 10)
        damaged.write(b"\xff" * 40)
    with closing(lower_of(image)) as lower:
        with pytest.raises(OSError) as failure:
            read(lower, b"broken", 0, BLOCK)
        assert failure.value.errno == errno.EIO
        assert read(lower, b"well", 0, 9000) == b"w" * 9000
    assert os.fsdecode(image) in caplog.text


def test_holes_are_found(files: tuple[SquashLower, dict[bytes, bytes]]) -> None:
    lower, content = files
    expected = {b"begins": (3 * BLOCK, 0), b"ends": (0, 3 * BLOCK), b"amid": (0, BLOCK), b"f4097": (0, 4097)}
    for name, (data, hole) in expected.items():
        handle = lower.open(lower.root(), name, os.O_RDONLY)
        assert (opened.seek(handle, 0, os.SEEK_DATA), opened.seek(handle, 0, os.SEEK_HOLE)) == (data, hole), name
        with pytest.raises(OSError) as failure:
            opened.seek(handle, len(content[name]), os.SEEK_DATA)
        assert failure.value.errno == errno.ENXIO
    with pytest.raises(OSError) as failure:
        opened.seek(lower.open(lower.root(), b"wholly", os.O_RDONLY), 0, os.SEEK_DATA)
    assert failure.value.errno == errno.ENXIO
