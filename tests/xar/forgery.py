"""Images whose metadata and data are stored as they are, and the places in them to lie at."""

import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from layerfs.pysquashfs import FileSpec, SquashfsImage, WriteOptions, write_image

PLAIN = WriteOptions(block_size=16384, compress_inodes=False, compress_data=False, compress_xattrs=False, export=False)


def directory(path: bytes, mode: int = 0o755) -> FileSpec:
    return FileSpec(path, stat.S_IFDIR | mode)


def file(path: bytes, data: bytes = b"data\n", mode: int = 0o644) -> FileSpec:
    return FileSpec(path, stat.S_IFREG | mode, data=data)


def symlink(path: bytes, target: bytes) -> FileSpec:
    return FileSpec(path, stat.S_IFLNK | 0o777, target=target)


class Forgery:
    """An image in a file, of which single fields can be changed."""

    def __init__(self, path: Path, entries: Iterable[FileSpec], options: WriteOptions = PLAIN) -> None:
        self.path = path
        write_image(path, entries, options)
        self.data = bytearray(path.read_bytes())

    def inode(self, path: bytes) -> int:
        """Where an inode is stored [bytes from the beginning]."""
        with SquashfsImage(self.path) as image:
            ref = image.lookup(path).ref
            return image.superblock.inode_table + (ref >> 16) + 2 + (ref & 0xFFFF)

    def name(self, name: bytes) -> int:
        """Where a name in a directory is stored; before it 8 bytes: offset, number, type, length - 1 (2 bytes each)."""
        with SquashfsImage(self.path) as image:
            return self.data.index(name, image.superblock.directory_table)

    def put(self, at: int, layout: str, *values: object) -> None:
        """Change bytes, in the file too."""
        struct.pack_into(layout, self.data, at, *values)
        self.path.write_bytes(self.data)

    def swap(self, name: bytes, other: bytes) -> None:
        """Let a directory say another inode of the same metadata block under a name."""
        (offset,) = struct.unpack_from("<H", self.data, self.name(other) - 8)
        self.put(self.name(name) - 8, "<H", offset)


def overlapping(path: Path) -> Forgery:
    """An image in which many directories have one long listing: a small file with any number of names."""
    more = [b"more%02d" % number for number in range(20)]
    names = [file(b"many/%04d" % number, b"") for number in range(900)]
    forgery = Forgery(path, [directory(b""), directory(b"many"), *names, *map(directory, more)])
    source = forgery.inode(b"many")
    for name in more:
        at = forgery.inode(name)
        for start, length in ((16, 4), (24, 4)):  # the listing's metadata block; its size and place in it
            forgery.put(at + start, f"{length}s", bytes(forgery.data[source + start : source + start + length]))
    return forgery
