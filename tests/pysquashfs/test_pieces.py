"""Where the bytes of large files lie, from the beginning, from anywhere, and without holes."""

import threading
from pathlib import Path

import pytest

from layerfs.pysquashfs import SquashfsImage, WriteOptions, write_tree
from layerfs.pysquashfs.pieces import BATCH, Pieces

BLOCK = 4096  # bytes
BLOCKS = 40 * BATCH


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image with a file that has data in every thousandth block, and a tail."""
    (tmp_path / "tree").mkdir()
    with open(tmp_path / "tree/f", "wb") as file:
        for number in range(0, BLOCKS, 1000):
            file.seek(number * BLOCK)
            file.write(b"%08d" % number * (BLOCK // 8))
        file.truncate(BLOCKS * BLOCK)
        file.seek(BLOCKS * BLOCK)
        file.write(b"tail")
    write_tree(tmp_path / "tree", tmp_path / "image", WriteOptions(block_size=BLOCK))
    return tmp_path / "image"


def test_pieces_are_in_order_and_without_gaps_wherever_one_begins(image: Path) -> None:
    with SquashfsImage(image) as opened:
        pieces = opened.pieces(opened.lookup(b"f").ref)
        assert isinstance(pieces, Pieces) and len(pieces) == BLOCKS + 1
        for index in (BLOCKS, BLOCKS - 1, 7 * BATCH, 0, 13_000):
            assert pieces[index].offset == index * BLOCK
        assert pieces[-1].length == 4
        assert sum(piece.length for piece in pieces) == BLOCKS * BLOCK + 4


def test_the_stored_ones_are_those_that_are_no_holes(image: Path) -> None:
    with SquashfsImage(image) as opened:
        ref = opened.lookup(b"f").ref
        assert list(opened.stored_pieces(ref)) == [piece for piece in opened.pieces(ref) if piece.position >= 0]
        assert len(list(opened.stored_pieces(ref))) == -(-BLOCKS // 1000) + 1


def test_places_of_a_file_are_remembered_until_the_image_is_closed(image: Path) -> None:
    opened = SquashfsImage(image)
    ref = opened.lookup(b"f").ref
    assert opened.pieces(ref) is opened.pieces(ref)
    opened.close()
    with pytest.raises(OSError, match="closed"):
        opened.pieces(ref)


def test_threads_may_share_the_places_of_a_file(image: Path) -> None:
    with SquashfsImage(image) as opened:
        pieces = opened.pieces(opened.lookup(b"f").ref)
        wrong: list[int] = []

        def look(begin: int) -> None:
            wrong.extend(index for index in range(begin, BLOCKS, 97) if pieces[index].offset != index * BLOCK)

        threads = [threading.Thread(target=look, args=(begin,)) for begin in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
