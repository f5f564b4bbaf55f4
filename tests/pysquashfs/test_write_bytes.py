"""Which bytes are written: the same for the same input, fewer for what is there twice, and flags that say what is."""

import os
import random
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from layerfs.pysquashfs import Compressor, FileSpec, SquashfsImage, WriteOptions, write_image, write_tree
from tests.pysquashfs.write_facts import DIRECTORY, FILE

NEWEST = 1_700_000_000
INODES, DATA, FRAGMENTS, NO_FRAGMENTS = 0x1, 0x2, 0x8, 0x10  # flags of the superblock, from squashfs_fs.h
DUPLICATES, EXPORT, XATTRS, NO_XATTRS, IDS = 0x40, 0x80, 0x100, 0x200, 0x800


@pytest.fixture(autouse=True)
def _no_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)


def text(seed: int, size: int) -> bytes:
    """Bytes that compress by about a half."""
    return random.Random(seed).randbytes(size // 2).hex().encode()


def fill(top: Path, names: list[str]) -> None:
    """Make a tree of files, in the order of `names`."""
    for name in names:
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text(len(name) * 7 + ord(name[-1]), 1 + sum(name.encode()) * 997 % 50_000))
        os.setxattr(path, "user.b", name.encode())
        os.setxattr(path, "user.a", b"same")
        os.utime(path, (0, NEWEST - len(name)))
    for directory in [top, *(path for path in top.rglob("*") if path.is_dir())]:
        os.utime(directory, (0, NEWEST))


NAMES = [f"{directory}/{number}" for directory in ("a", "a/b", "B", "z/y/x") for number in range(12)]


def test_image_does_not_depend_on_threads(scratch: Path) -> None:
    fill(scratch / "tree", NAMES)
    images = set()
    for threads in (1, 2, 4, 9, None):
        write_tree(scratch / "tree", scratch / "image", WriteOptions(block_size=16384, threads=threads))
        images.add((scratch / "image").read_bytes())
    assert len(images) == 1


def test_image_does_not_depend_on_the_order_on_disk_nor_on_when_it_was_read(scratch: Path) -> None:
    fill(scratch / "one", NAMES)
    fill(scratch / "other", random.Random(5).sample(NAMES, len(NAMES)))
    for path in (scratch / "other").rglob("*"):
        os.utime(path, (12345, path.stat().st_mtime))
    for name in ("one", "other"):
        write_tree(scratch / name, scratch / f"{name}.image")
    assert (scratch / "one.image").read_bytes() == (scratch / "other.image").read_bytes()


def test_metadata_are_sorted_whatever_the_order_of_entries(scratch: Path) -> None:
    marks = [{b"user.n": b"%d" % number} for number in range(5)]
    entries = [FileSpec(b"%d" % number, FILE, number, xattrs=marks[number % 5]) for number in range(300)]
    for name, given in (("one", entries), ("other", entries[::-1])):
        write_image(scratch / name, given)
    assert (scratch / "one").read_bytes() == (scratch / "other").read_bytes()


@pytest.mark.parametrize(
    ("options", "epoch", "image", "file", "old"),
    [
        (WriteOptions(), None, NEWEST, NEWEST, 5),
        (WriteOptions(), "1000", 1000, 1000, 5),
        (WriteOptions(), str(NEWEST + 9), NEWEST + 9, NEWEST, 5),
        (WriteOptions(mtime=2000), None, 2000, 2000, 5),
        (WriteOptions(mtime=2000), "1000", 2000, 2000, 5),
        (WriteOptions(mtime=0), "1000", 0, 0, 0),
        (WriteOptions(), "", NEWEST, NEWEST, 5),
    ],
    ids=["newest", "epoch", "epoch later", "mtime", "mtime wins", "zero", "empty"],
)
def test_times(
    options: WriteOptions,
    epoch: str | None,
    image: int,
    file: int,
    old: int,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The image's time is that of its newest file, unless one is given, which no file may exceed then."""
    if epoch is not None:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    write_image(scratch / "image", [FileSpec(b"old", FILE, mtime=5), FileSpec(b"new", FILE, mtime=NEWEST)], options)
    with SquashfsImage(scratch / "image") as opened:
        times = {name: inode.mtime for name, inode in opened.scan(opened.root.ref)}
        assert (opened.superblock.modification_time, opened.root.mtime) == (image, image)
    assert times == {b"old": old, b"new": file}


def test_times_that_squashfs_cannot_hold_become_the_nearest(scratch: Path) -> None:
    times = {b"before": -5, b"after": 2**33, b"last": 2**32 - 1}
    write_image(scratch / "image", [FileSpec(name, FILE, mtime=mtime) for name, mtime in times.items()])
    with SquashfsImage(scratch / "image") as image:
        times = {name: inode.mtime for name, inode in image.scan(image.root.ref)}
    assert times == {b"before": 0, b"after": 2**32 - 1, b"last": 2**32 - 1}


def block_run(*numbers: int) -> bytes:
    return b"".join(text(number, 4096) for number in numbers)


@pytest.mark.parametrize(
    "content",
    [
        lambda number: text(1, 50_000),
        lambda number: text(1, 3000),
        lambda number: text(1, 40960) if number % 2 else text(1, 40960 + 500),
    ],
    ids=["blocks", "fragments", "blocks with and without an end"],
)
def test_equal_files_are_stored_once(content: Callable[[int], bytes], scratch: Path) -> None:
    def size(count: int, deduplicate: bool = True) -> int:
        entries = [FileSpec(b"%d" % number, FILE, data=content(number)) for number in range(count)]
        return write_image(scratch / "image", entries, WriteOptions(block_size=4096, deduplicate=deduplicate))

    assert size(20) - size(2) <= 4096
    assert size(20, deduplicate=False) > 5 * size(2)


def test_equal_runs_of_blocks_are_stored_once(scratch: Path) -> None:
    """A file that is a part of an earlier one has its place there; one that only begins so has a place of its own."""
    files = {
        b"0 whole": block_run(1, 2, 3, 4),
        b"1 middle": block_run(2, 3),
        b"2 end": block_run(4),
        b"3 holes between": block_run(2) + bytes(4096 * 3) + block_run(3),
        b"4 begins so": block_run(1, 2, 9),
        b"5 over the end": block_run(4, 1),
    }
    write_image(
        scratch / "image",
        [FileSpec(name, FILE, data=data) for name, data in files.items()],
        WriteOptions(block_size=4096),
    )
    with SquashfsImage(scratch / "image") as image:
        places = {}
        for name, inode in image.scan(image.root.ref):
            assert image.read(inode.ref, 0, inode.size) == files[name]
            places[name] = [piece.position for piece in image.pieces(inode.ref)]
    whole = places[b"0 whole"]
    assert places[b"1 middle"] == whole[1:3]
    assert places[b"2 end"] == whole[3:]
    assert places[b"3 holes between"] == [whole[1], -1, -1, -1, whole[2]]
    # The last block of one file and the first of the next are neighbours too, and what they hold is the same.
    assert not set(places[b"4 begins so"]) & set(whole)
    assert places[b"5 over the end"] == [whole[3], places[b"4 begins so"][0]]


@pytest.mark.parametrize(
    ("options", "there", "absent"),
    [
        (WriteOptions(), DUPLICATES | EXPORT, INODES | DATA | FRAGMENTS | NO_FRAGMENTS | XATTRS | NO_XATTRS | IDS),
        (WriteOptions(compress_inodes=False), INODES | IDS, DATA | FRAGMENTS | XATTRS),
        (WriteOptions(compress_xattrs=False), XATTRS, INODES | DATA | IDS),
        (WriteOptions(compress_data=False), DATA | FRAGMENTS, INODES | IDS),
        (WriteOptions(fragments=False), NO_FRAGMENTS, FRAGMENTS),
        (WriteOptions(deduplicate=False, export=False), 0, DUPLICATES | EXPORT),
        (WriteOptions(xattrs=False), NO_XATTRS, 0),
    ],
    ids=["plain", "inodes", "xattrs", "data", "fragments", "extras", "no xattrs"],
)
def test_superblock_says_what_is_in_the_image(options: WriteOptions, there: int, absent: int, scratch: Path) -> None:
    entries = [FileSpec(b"n" * 200, FILE, data=text(1, 9000), xattrs={b"user.x": b"v" * 5000})]
    write_image(scratch / "image", entries, options)
    with SquashfsImage(scratch / "image") as image:
        flags = image.superblock.flags
    assert (flags & there, flags & absent) == (there, 0)
    image_bytes = (scratch / "image").read_bytes()
    assert (b"n" * 200 in image_bytes) is not options.compress_inodes
    assert (b"v" * 5000 in image_bytes) is (options.xattrs and not options.compress_xattrs)
    assert (text(1, 9000) in image_bytes) is not options.compress_data


def test_levels_trade_time_for_size(scratch: Path) -> None:
    data = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    for compressor, low, high in (
        (Compressor.GZIP, 1, 9),
        (Compressor.ZSTD, 1, 19),
        (Compressor.LZ4, 1, 9),
        (Compressor.XZ, 0, 9),
    ):
        sizes = []
        for level in (low, high):
            write_image(scratch / "image", [FileSpec(b"x", FILE, data=data)], WriteOptions(compressor, level=level))
            with SquashfsImage(scratch / "image") as image:
                sizes.append(image.superblock.bytes_used)
                assert image.superblock.compressor is compressor
        assert sizes[1] < sizes[0], compressor


def test_inodes_lie_in_the_order_of_names(scratch: Path) -> None:
    """So that a listing with attributes reads neighbouring blocks: also where directories stand between the files."""
    names = [b"%03d" % number for number in range(200)]
    entries = [FileSpec(name, DIRECTORY if int(name) % 3 == 0 else FILE) for name in names]
    entries += [FileSpec(name + b"/below", stat.S_IFIFO) for name in names[::3]]
    write_image(scratch / "image", entries)
    with SquashfsImage(scratch / "image") as image:
        numbers = [inode.number for _, inode in image.scan(image.root.ref)]
        assert numbers == list(range(numbers[0], numbers[0] + 200))
        assert image.root.number == image.superblock.inode_count == 200 + 67 + 1
