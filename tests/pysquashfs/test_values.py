"""What an image holds, as values: their fields are those of the records that C fills."""

import stat
from pathlib import Path

from layerfs.pysquashfs import NO_XATTRS, Compressor, FileSpec, Inode, SquashfsImage, WriteOptions, write_image
from layerfs.pysquashfs.image import RECORD
from layerfs.pysquashfs.values import Piece

TIME = 1_500_000_000  # s


def test_an_inode_has_its_fields_in_the_order_of_the_record(tmp_path: Path) -> None:
    spec = FileSpec(b"f", stat.S_IFREG | 0o640, 11, 22, TIME, data=b"12345")
    write_image(tmp_path / "image", [spec], WriteOptions(compressor=Compressor.GZIP))
    with SquashfsImage(tmp_path / "image") as image:
        inode = image.lookup(b"f")
        assert inode._replace(ref=0) == Inode(0, 1, stat.S_IFREG | 0o640, 11, 22, TIME, 1, 5, 0, 0, NO_XATTRS, 0)
        assert len(inode) == len("QIIIIIIQIQII") and RECORD == 60
        (piece,) = image.pieces(inode.ref)
        assert piece == Piece(0, 5, piece.position, piece.stored, 0)


def test_the_superblock_names_its_compressor_and_version(tmp_path: Path) -> None:
    for compressor in (Compressor.GZIP, Compressor.XZ, Compressor.LZ4, Compressor.ZSTD):
        write_image(tmp_path / "image", [], WriteOptions(compressor=compressor, block_size=8192))
        with SquashfsImage(tmp_path / "image") as image:
            block = image.superblock
            assert (block.compressor, block.block_size, block.version) == (compressor, 8192, (4, 0))
