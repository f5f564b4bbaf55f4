"""What an image holds, as values: its superblock, inodes, directory entries, and the pieces a file is made of."""

from enum import Enum
from typing import Final, NamedTuple

NO_XATTRS: Final = 0xFFFFFFFF  # an inode's index when it has none


class Compressor(Enum):
    """How blocks are compressed; the value is the number in the superblock."""

    GZIP = 1
    LZMA = 2
    LZO = 3
    XZ = 4
    LZ4 = 5
    ZSTD = 6


class Superblock(NamedTuple):
    """The head of an image. Positions are bytes from the image's start; 2**64 - 1 where the table is missing."""

    inode_count: int
    modification_time: int  # s since 1970
    block_size: int  # bytes
    fragment_count: int
    compressor: Compressor
    flags: int  # SQFS_SUPER_FLAGS of sqfs/super.h
    id_count: int
    version: tuple[int, int]
    root_ref: int
    bytes_used: int
    id_table: int
    xattr_table: int
    inode_table: int
    directory_table: int
    fragment_table: int
    export_table: int


class Inode(NamedTuple):
    """A file of any kind. Its data, names, target and xattrs are asked of the `SquashfsImage` by `ref`."""

    ref: int  # where it is stored: 48 bits
    number: int  # from 1; hard links share it
    mode: int  # with S_IFMT
    uid: int
    gid: int
    mtime: int  # s since 1970
    nlink: int
    size: int  # bytes; a link's is that of its target
    rdev: int  # as os.makedev makes it
    sparse: int  # bytes in holes, where the image says so
    xattr: int  # index, or NO_XATTRS
    parent: int  # a directory's parent's number; 0 for what is none


class DirEntry(NamedTuple):
    """A name in a directory; `mode_type` is its inode's S_IFMT."""

    name: bytes
    ref: int
    mode_type: int
    number: int


class InodeCalls(NamedTuple):
    """Functions of C that answer for an open image's inodes, by `ref`: their addresses (squash_answer_* of read.h).

    They are called with `image`, and are good while `keep` is there. Any thread may call them, without the interpreter.
    """

    image: int
    stat: int
    link: int
    read: int  # of files that lie in one block
    keep: object


class Piece(NamedTuple):
    """Bytes of a file within one stored block, from `start` in it; `SquashfsImage.load` gives the block."""

    offset: int  # in the file
    length: int
    position: int  # of the stored block in the image; -1 for a hole
    stored: int  # the block's size in the image, with bit 24 set where it is not compressed; 0 for a hole
    start: int  # in the block when decompressed; other than 0 only in fragment blocks
