"""squashfs images, read and written. Knows nothing of the rest of layerfs.

The reader is C of ours (read*.c), which believes nothing an image says; libsquashfs uncompresses blocks for it. The
writer (write*.c) has libsquashfs 1.2 compress and lay out. Both are one extension module (cffi, API mode).

    with SquashfsImage("app.squashfs") as image:
        for path, inode in image.walk():
            ...

Everything below a path is bytes. What is wrong with an image is a SquashfsError. The writing half is imported when it
is first asked for.
"""

from typing import TYPE_CHECKING

from layerfs.pysquashfs.errors import SquashfsError
from layerfs.pysquashfs.image import SquashfsImage
from layerfs.pysquashfs.values import NO_XATTRS, Compressor, DirEntry, Inode, InodeCalls, Piece, Superblock

if TYPE_CHECKING:
    from layerfs.pysquashfs.writer import FileSpec, ImageWriter, WriteOptions, entries_of, write_image, write_tree

_WRITING = frozenset({"ImageWriter", "FileSpec", "WriteOptions", "entries_of", "write_image", "write_tree"})

__all__ = [
    "NO_XATTRS",
    "Compressor",
    "DirEntry",
    "FileSpec",
    "ImageWriter",
    "Inode",
    "InodeCalls",
    "Piece",
    "SquashfsError",
    "SquashfsImage",
    "Superblock",
    "WriteOptions",
    "entries_of",
    "write_image",
    "write_tree",
]


def __getattr__(name: str) -> object:
    if name not in _WRITING:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from layerfs.pysquashfs import writer

    return getattr(writer, name)
