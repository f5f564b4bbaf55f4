"""What C answers for an inode without Python.

How the rest of a `struct stat` is filled is compared in tests/fuse/test_tables_images.py.
"""

import os
import stat
from pathlib import Path

import pytest

from layerfs.pysquashfs import NO_XATTRS, FileSpec, SquashfsImage, WriteOptions, write_image
from layerfs.pysquashfs._squashfs import lib
from tests.pysquashfs.answering import Answering
from tests.pysquashfs.images import noise, prose

TARGET = b"t" * 4000
BLOCK = 8192
SIZES = (0, 1, 100, BLOCK - 1, BLOCK, BLOCK + 1)
CACHED = 8 << 20  # bytes


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("answers") / "image"
    files = (
        FileSpec(b"plain", stat.S_IFREG | 0o644, data=b"data"),
        FileSpec(b"marked", stat.S_IFREG | 0o644, data=b"data", xattrs={b"user.word": b"value"}),
        FileSpec(b"link", stat.S_IFLNK | 0o777, target=TARGET),
    )
    write_image(place, files)
    return place


def test_each_inode_is_told_with_whether_it_has_attributes(image: Path) -> None:
    with SquashfsImage(image) as opened:
        answering = Answering(opened)
        for _, inode in opened.walk():
            assert answering.stat(inode.ref) == (inode.xattr != NO_XATTRS, inode.number)


def test_a_link_is_read_whole_or_not_at_all(image: Path) -> None:
    with SquashfsImage(image) as opened:
        answering, link = Answering(opened), opened.lookup(b"link")
        assert answering.link(link.ref, len(TARGET)) == TARGET
        for ref, room in ((link.ref, len(TARGET) - 1), (opened.root.ref, 9)):
            with pytest.raises(OSError, match="answered -"):
                answering.link(ref, room)


@pytest.mark.parametrize("ref", [1, 1 << 48, 2**64 - 1, 0x1FFF, 8192])
def test_a_reference_that_leads_nowhere_is_no_answer(image: Path, ref: int) -> None:
    with SquashfsImage(image) as opened, pytest.raises(OSError, match="answered -"):
        Answering(opened).stat(ref)


def test_an_image_that_was_closed_answers_as_long_as_somebody_keeps_it(image: Path) -> None:
    opened = SquashfsImage(image)
    root, answering = opened.root, Answering(opened)
    opened.close()
    assert answering.stat(root.ref)[1] == root.number
    with pytest.raises(OSError, match="closed"):
        opened.calls()
    assert os.path.getsize(image)


@pytest.mark.parametrize("fragments", [True, False])
@pytest.mark.parametrize("content", [prose, noise, bytes])
def test_any_range_of_a_file_in_one_block_is_read(tmp_path: Path, content: type[bytes], fragments: bool) -> None:
    data = {b"%d" % size: content(size) for size in SIZES}
    files = [FileSpec(name, stat.S_IFREG | 0o644, data=each) for name, each in data.items()]
    write_image(tmp_path / "image", files, WriteOptions(block_size=BLOCK, fragments=fragments))
    with SquashfsImage(tmp_path / "image") as opened:
        answering = Answering(opened)
        for name, each in data.items():
            ref = opened.lookup(name).ref
            for offset in (0, 1, 99, BLOCK - 2, BLOCK, 2**63, 2**64 - 1):
                for size in (0, 1, 50, BLOCK, 3 * BLOCK):
                    if len(each) <= BLOCK:
                        assert answering.read(ref, offset, size) == each[offset : offset + size]
                        continue
                    with pytest.raises(OSError, match="answered -"):
                        answering.read(ref, offset, size)


def test_only_files_are_read(image: Path) -> None:
    with SquashfsImage(image) as opened:
        answering = Answering(opened)
        for ref in (opened.root.ref, opened.lookup(b"link").ref, 2**64 - 1):
            with pytest.raises(OSError, match="answered -"):
                answering.read(ref, 0, 10)


def test_a_block_that_is_shorter_than_its_file_says_is_no_answer(tmp_path: Path) -> None:
    """Its size in the inode is changed: the data end before the file does."""
    options = WriteOptions(block_size=BLOCK, fragments=False, compress_inodes=False)
    write_image(tmp_path / "image", [FileSpec(b"a", stat.S_IFREG | 0o644, data=prose(5000))], options)
    raw = bytearray((tmp_path / "image").read_bytes())
    at = raw.index((5000).to_bytes(4, "little"), int.from_bytes(raw[64:72], "little"))
    raw[at : at + 4] = (5001).to_bytes(4, "little")
    (tmp_path / "image").write_bytes(raw)
    with SquashfsImage(tmp_path / "image") as opened:
        ref = opened.lookup(b"a").ref
        for offset in (0, 5000):
            with pytest.raises(OSError, match="answered -"):
                Answering(opened).read(ref, offset, 1)


def test_few_blocks_are_kept_and_none_of_an_image_that_is_closed(tmp_path: Path) -> None:
    before = lib.squash_answers_hold()
    size = 1 << 20
    files = [FileSpec(b"%d" % at, stat.S_IFREG | 0o644, data=b"%d" % at * (size // 2)) for at in range(10, 30)]
    write_image(tmp_path / "image", files, WriteOptions(block_size=size))
    opened = SquashfsImage(tmp_path / "image")
    answering = Answering(opened)
    refs = {each.path: opened.lookup(each.path).ref for each in files}
    most = 0
    for turn in range(2):
        for path, ref in refs.items():
            assert answering.read(ref, turn, 4) == (path * 3)[turn : turn + 4]
            most = max(most, lib.squash_answers_hold())
    assert CACHED // 2 < most <= CACHED
    opened.close()
    del answering
    assert lib.squash_answers_hold() <= before
