"""What is large stays quick: 100,000 names in a directory, and a file of more than 2 GiB."""

import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from layerfs.pysquashfs import Compressor, FileSpec, Piece, SquashfsImage, WriteOptions, write_image, write_tree
from tests.host import require
from tests.pysquashfs.images import make_image, mounted, noise, seen_in_directory, seen_in_image
from tests.waiting import PATIENCE

NAMES = 100_000
LINE = b"layerfs 0123456789\n"
HOLE, PATTERN = 1 << 30, 1_100_000_000  # bytes: the file's first half, and what follows


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of one directory with very many entries."""
    require("mksquashfs")
    image = tmp_path_factory.mktemp("crowd") / "image"
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a disk takes seconds for so many
    with tempfile.TemporaryDirectory(dir=memory, prefix="layerfs-test-") as place:
        directory = Path(place, "tree/crowd")
        directory.mkdir(parents=True)
        for number in range(NAMES):
            os.mknod(f"{directory}/entry-{number:06}")
        return make_image("mksquashfs", directory.parent, image)


def test_every_one_of_100000_names_is_listed_and_found(crowd: Path) -> None:
    with SquashfsImage(crowd) as image:
        directory = image.lookup(b"crowd").ref
        expected = [b"entry-%06d" % number for number in range(NAMES)]
        assert [name for name, _ in image.scan(directory)] == expected
        assert [entry.name for entry in image.readdir(directory)] == expected
        assert sum(1 for _ in image.walk()) == NAMES + 2
        for name in expected[::997]:
            found = image.find(directory, name)
            assert found is not None
            assert image.by_number(found.number) == found
            assert image.find(directory, name + b"-") is None


@pytest.mark.mounts
def test_kernel_gives_100000_names_the_same_numbers(crowd: Path, scratch: Path) -> None:
    require("root")
    with SquashfsImage(crowd) as image, mounted(crowd, scratch / "mount") as place:
        with os.scandir(os.fsencode(place / "crowd")) as entries:
            theirs = {entry.name: entry.inode() for entry in entries}
        assert {name: inode.number for name, inode in image.scan(image.lookup(b"crowd").ref)} == theirs


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of one file of 2 GiB and more, half a hole; mksquashfs reads it from a pipe, so it is on no disk."""
    require("mksquashfs")
    place = tmp_path_factory.mktemp("large")
    (place / "tree").mkdir()
    command = f"{{ head -c {HOLE} /dev/zero; yes '{LINE.decode().strip()}' | head -c {PATTERN}; }}"
    options = ("-comp", "lz4", "-b", "128K", "-p", f"large f 644 0 0 {command}")
    return make_image("mksquashfs", place / "tree", place / "image", *options)


def expected(offset: int, length: int, ring: bytes = LINE * (1 + (1 << 17) // len(LINE) + 1)) -> bytes:
    """What the file has behind its hole, for at most a block."""
    start = (offset - HOLE) % len(LINE)
    return ring[start : start + length]


def test_file_of_2_gib_reads_back(large: Path) -> None:
    with SquashfsImage(large) as image:
        inode = image.lookup(b"large")
        assert inode.size == HOLE + PATTERN > 1 << 31
        pieces = image.pieces(inode.ref)
        assert len(pieces) == -(-inode.size // (1 << 17))

        def right(piece: Piece) -> bool:
            if piece.offset < HOLE:
                return piece.position == -1
            data = image.load(piece.position, piece.stored, piece.length)
            return data == expected(piece.offset, piece.length)

        with ThreadPoolExecutor(2) as pool:
            assert all(pool.map(right, pieces))
        assert sum(piece.length for piece in pieces) == inode.size


def test_large_file_is_entered_anywhere(large: Path) -> None:
    with SquashfsImage(large) as image:
        inode = image.lookup(b"large")
        places = image.pieces(inode.ref)
        for index in (len(places) - 1, 3, len(places) // 2, 511, 512, 513, -1, 0):
            assert places[index].offset == (index % len(places)) << 17
        assert [piece.offset >> 17 for piece in places[510:514]] == [510, 511, 512, 513]
        for wrong in (len(places), -len(places) - 1, 1 << 50):
            with pytest.raises(IndexError):
                places[wrong]
        for offset in (HOLE - 10, HOLE + 12345678, inode.size - 100):
            length = min(100, inode.size - offset)
            data = image.read(inode.ref, offset, 100)
            hole = max(0, HOLE - offset)
            assert data == bytes(hole) + expected(offset + hole, length - hole)


@pytest.mark.mounts
def test_islands_beyond_4_gib_are_found(scratch: Path) -> None:
    """Sizes and places that 32 bits do not hold. mksquashfs would read all of the hole, so the image is ours."""
    islands = {at: b"island %d" % at for at in (0, 2**31 - 5, 2**32 - 3, 2**32 + 2**20)}
    (scratch / "tree").mkdir()
    with open(scratch / "tree/islands", "wb") as file:
        for at, data in islands.items():
            os.pwrite(file.fileno(), data, at)
        file.truncate(2**32 + 2**21 + 5)
    write_tree(scratch / "tree", scratch / "image")
    require("root")
    with SquashfsImage(scratch / "image") as image, mounted(scratch / "image", scratch / "mount") as place:
        inode = image.lookup(b"islands")
        assert inode.size == 2**32 + 2**21 + 5
        with open(place / "islands", "rb") as theirs:
            for at, data in islands.items():
                assert image.read(inode.ref, at, len(data)) == data == os.pread(theirs.fileno(), len(data), at)
                assert image.read(inode.ref, max(at - 9, 100), 5) == bytes(5)
        assert image.read(inode.ref, inode.size - 3, 100) == bytes(3)


@pytest.mark.mounts
def test_tables_of_many_blocks_are_read(scratch: Path) -> None:
    """As many owners, fragments, xattrs and numbers as files, each table longer than a block of metadata holds."""
    count = 2200
    root = FileSpec(b"", stat.S_IFDIR | 0o755)
    files = [
        FileSpec(
            b"%04d" % number, stat.S_IFREG | 0o644, uid=number, gid=10**9 + number, data=noise(3000, number),
            xattrs={b"user.number": b"%d" % number},
        )
        for number in range(count)
    ]  # fmt: skip
    write_image(scratch / "image", [root, *files], WriteOptions(block_size=4096, compressor=Compressor.LZ4))
    with SquashfsImage(scratch / "image") as image:
        assert image.superblock.fragment_count > 2 * 512
        assert image.superblock.id_count > 2 * 2048
        ours = seen_in_image(image)
        for entry in files:
            assert ours[entry.path][1:3] == (entry.uid, entry.gid)
            assert dict(ours[entry.path].xattrs) == entry.xattrs
        for name, inode in image.scan(image.root.ref):
            assert image.by_number(inode.number) == inode, name
        require("root")
        with mounted(scratch / "image", scratch / "mount") as place:
            assert seen_in_directory(place) == ours


def test_pieces_are_shared_by_threads(large: Path) -> None:
    """Each thread walks the block list from another place, forgets batches that others look at, and sees the same."""
    with SquashfsImage(large) as image:
        pieces = image.pieces(image.lookup(b"large").ref)
        alone = [image.pieces(image.lookup(b"large").ref)[index] for index in range(0, len(pieces), 100)]

        def look(order: int) -> Iterator[Piece]:
            return (pieces[index] for index in list(range(0, len(pieces), 100))[::order])

        with ThreadPoolExecutor(4) as pool:
            orders = (1, -1, 1, -1)
            for order, seen in zip(orders, pool.map(lambda order: list(look(order)), orders), strict=True):
                assert seen == alone[::order]


@pytest.mark.parametrize("compressed", [False, True])
def test_lists_of_blocks_of_any_length_are_written(compressed: bool, scratch: Path) -> None:
    """A list of 8 MiB or more was put on the stack: the writer died of SIGSEGV."""
    require("unsquashfs")
    (scratch / "tree").mkdir()
    data = LINE * 3_600_000  # 16,699 blocks, whose list has more than 64 KiB
    (scratch / "tree/long").write_bytes(data)
    with open(scratch / "tree/hole", "wb") as file:
        file.truncate(9 << 30)
        for place in (5 << 20, (9 << 30) - 10):
            file.seek(place)
            file.write(b"island")
    options = WriteOptions(compressor=Compressor.LZ4, block_size=4096, compress_inodes=compressed)
    write_tree(scratch / "tree", scratch / "image", options)
    with SquashfsImage(scratch / "image") as image:
        assert image.read(image.lookup(b"long").ref, 0, len(data)) == data
        hole = image.lookup(b"hole")
        assert (hole.size, hole.sparse) == (9 << 30, (9 << 30) - 2 * 4096)
        assert [piece.offset for piece in image.stored_pieces(hole.ref)] == [5 << 20, (9 << 30) - 4096]
        assert image.read(hole.ref, (9 << 30) - 12, 12) == b"\0\0island\0\0\0\0"
    command = ["unsquashfs", "-d", str(scratch / "out"), str(scratch / "image"), "long"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE)
    assert (scratch / "out/long").read_bytes() == data
