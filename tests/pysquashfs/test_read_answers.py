"""What C answers for an inode without Python.

How the rest of a `struct stat` is filled is compared in tests/fuse/test_tables_images.py.
"""

import os
import stat
from pathlib import Path

import pytest

from layerfs.pysquashfs import NO_XATTRS, FileSpec, SquashfsImage, write_image
from tests.pysquashfs.answering import Answering

TARGET = b"t" * 4000


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
