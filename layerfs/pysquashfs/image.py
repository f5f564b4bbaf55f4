"""One image, open for reading. Thread-safe; the C behind it runs without the GIL and believes nothing an image says."""

import errno
import os
from _thread import allocate_lock  # threading takes a millisecond to import
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count as counting
from stat import S_ISDIR
from struct import Struct
from typing import Any, Self

from layerfs.pysquashfs._squashfs import ffi, lib
from layerfs.pysquashfs.errors import SquashfsError, from_status
from layerfs.pysquashfs.pieces import BATCH, Pieces, fetch, stored, tail
from layerfs.pysquashfs.recent import Recent
from layerfs.pysquashfs.trail import Trail
from layerfs.pysquashfs.values import NO_XATTRS, Compressor, DirEntry, Inode, InodeCalls, Piece, Superblock

RECORD = 60  # bytes; read.h
TARGET_MOST = 65535  # bytes of a symbolic link
NAME_MOST = 256  # bytes
LARGE = 4  # files whose places are remembered; each takes up to 2 MiB
ALL = 2**64 - 1  # what is left of the file

_inodes = Struct("=QIIIIIIQIQII").iter_unpack
_names = Struct("=QII").iter_unpack
_lengths = Struct("=II").unpack_from
_inode: Callable[[Any], Inode] = partial(tuple.__new__, Inode)
# A listing has 31 KiB that C fills before anybody looks.
_new_listing = ffi.new_allocator(should_clear_after_alloc=False)
_new_blocks = _new_listing
_new_record = partial(_new_listing, "unsigned char[60]")
_numbers = counting()


class SquashfsImage:
    """A squashfs image in a file, from `offset` on, `size` bytes or all that follow.

    An int is a descriptor, of which a duplicate is used; it and the file's own offset stay the caller's. `name` is what
    errors call the image, if that is not its path. Opening reads the superblock and nothing else. Opened before a fork
    it may be used on both sides. Raises SquashfsError; OSError where the path cannot be opened.

    All names that an image shows lie in its directory table, each once: a directory whose listing can only be a part of
    others' is an error of that directory (EIO), or a small image could have any number of names. `number` tells the
    open images of a process apart.
    """

    def __init__(
        self,
        source: str | bytes | int | os.PathLike[str] | os.PathLike[bytes],
        *,
        offset: int = 0,
        size: int | None = None,
        name: bytes | None = None,
    ) -> None:
        self._handle: Any = None
        self._root: Inode | None = None
        self.number = next(_numbers)
        self._listed: set[int] = set()  # directories whose listings were counted
        self._room: int | None = None  # bytes that the listings of the others can have
        self._large: Recent[int, Pieces] = Recent(LARGE)
        self._counting = allocate_lock()  # of listings, and of large files
        if isinstance(source, int):
            self.name = b"descriptor %d" % source if name is None else name
            fd = os.dup(source)
        else:
            self.name = os.fsencode(source) if name is None else name
            fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)  # it may be a FIFO
        try:
            self._handle = self._begin(fd, offset, ALL if size is None else size)
        except BaseException:
            os.close(fd)
            raise
        self.superblock = _superblock(lib.squash_superblock(self._handle))

    def _begin(self, fd: int, offset: int, size: int) -> Any:
        if not (0 <= offset < 2**63 and 0 <= size <= ALL):
            raise self._error(errno.EINVAL, "no such range of a file", "", "SQFS_ERROR_ARG_INVALID")
        result = ffi.new("squash_image **")
        status = lib.squash_open(fd, offset, size, result)
        if status < 0:
            raise from_status(status, filename=self.name, what="")
        return ffi.gc(result[0], lib.squash_close)

    def close(self) -> None:
        """Close the file. A call that is running in another thread still succeeds; later calls raise EBADF."""
        self._handle = None
        self._large = Recent(LARGE)  # each has a hand on the file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SquashfsImage {os.fsdecode(self.name)!r}{'' if self._handle else ', closed'}>"

    @property
    def root(self) -> Inode:
        """The root directory."""
        if self._root is None:
            self._root = self.inode(self.superblock.root_ref)
        return self._root

    def inode(self, ref: int) -> Inode:
        """Return what is stored at a reference, as entries and the superblock give them."""
        record = _new_record()
        self._check(lib.squash_inode(self._open(), _u64(ref), record), "inode", ref)
        return _one(record)

    def by_number(self, number: int) -> Inode:
        """Return the inode with a number. ENOENT outside the image's range, EOPNOTSUPP without an export table."""
        record = _new_record()
        self._check(lib.squash_by_number(self._open(), min(max(number, 0), 2**32 - 1), record), "number", number)
        return _one(record)

    def readdir(self, ref: int) -> list[DirEntry]:
        """Return a directory's entries in their order on disk: by name, bytewise. Inodes are not read."""
        names: list[bytes] = []
        fields: list[tuple[int, ...]] = []
        for records in self._batches(ref, False, 16, names):
            fields += _names(records)
        return [DirEntry(name, *found) for name, found in zip(names, fields, strict=True)]

    def scan(self, ref: int) -> list[tuple[bytes, Inode]]:
        """Return a directory's names with their inodes, in the order of readdir(): about 1 us each.

        An inode that cannot be read has the number 0, and its type from the entry; inode() says what is wrong with it.
        """
        names: list[bytes] = []
        inodes: list[Inode] = []
        for records in self._batches(ref, True, RECORD, names):
            inodes += map(_inode, _inodes(records))
        return list(zip(names, inodes, strict=True))

    def _batches(self, ref: int, inodes: bool, size: int, names: list[bytes]) -> Iterator[Any]:
        """Yield the records of a listing in pieces, having put their names to `names`."""
        handle = self._open()
        listing = _new_listing("squash_listing *")
        self._check(lib.squash_list_start(handle, _u64(ref), listing), "directory", ref)
        while count := lib.squash_list(handle, listing, inodes):
            self._check(count, "directory", ref)
            names += ffi.buffer(listing.names, listing.names_length)[:].split(b"\0")
            yield ffi.buffer(listing.records, count * size)
        if listing.unsorted and len(set(names)) < len(names):
            raise self._error(errno.EIO, "a name appears twice", f"directory {ref:#x}", "SQFS_ERROR_CORRUPTED")
        self._count(ref, listing.taken)

    def _count(self, ref: int, size: int) -> None:
        """Count the bytes of a directory's listing. Raises SquashfsError if they must be bytes of another's, too."""
        with self._counting:
            if self._room is None:
                self._room = self.listing_room()
            if ref in self._listed:
                return
            if size > self._room:
                reason = "directories overlap: their listings have more names than the image"
                raise self._error(errno.EIO, reason, f"directory {ref:#x}", "SQFS_ERROR_LINK_LOOP")
            self._room -= size
            self._listed.add(ref)

    def find(self, ref: int, name: bytes) -> Inode | None:
        """Return the inode that a directory has under a name; a large directory's index makes that quick."""
        if not 0 < len(name) <= NAME_MOST:
            return None
        record = _new_record()
        found = lib.squash_find(self._open(), _u64(ref), name, len(name), record)
        return _one(record) if self._check(found, "directory", ref) else None

    def lookup(self, path: bytes) -> Inode:
        """Return the inode at a path from the root. No symbolic link is followed: one in between is ENOTDIR."""
        inode = self.root
        for name in path.split(b"/"):
            if name in (b"", b"."):
                continue
            found = self.find(inode.ref, name)
            if found is None:
                raise self._error(errno.ENOENT, "no such file or directory", _said(path), "SQFS_ERROR_NO_ENTRY")
            inode = found
        return inode

    def readlink(self, ref: int) -> bytes:
        """Return what a symbolic link says."""
        target = _new_listing("char[]", TARGET_MOST)
        length = self._check(lib.squash_readlink(self._open(), _u64(ref), target, TARGET_MOST), "inode", ref)
        return bytes(ffi.buffer(target, length))

    def xattrs(self, ref: int) -> dict[bytes, bytes]:
        """Return an inode's extended attributes under their full names. Cheap where Inode.xattr is NO_XATTRS."""
        index = self.inode(ref).xattr
        if index == NO_XATTRS:
            return {}
        pairs = ffi.new("char **")
        try:
            length = self._check(lib.squash_xattrs(self._open(), index, pairs), "xattrs of inode", ref)
            return dict(_pairs(bytes(ffi.buffer(pairs[0], length)))) if length else {}
        finally:
            lib.squash_free(pairs[0])

    def pieces(self, ref: int) -> Sequence[Piece]:
        """Return where a file's bytes lie, in order and without gaps: piece i begins at i blocks.

        Costs nothing to speak of for a file of any size: those of a large one are fetched when they are looked at.
        """
        with self._counting:
            known = self._large.get(ref)
        if known is not None:
            self._open()
            return known
        handle, blocks, fail = self._blocks(ref)
        if blocks.total > BATCH:
            found = Pieces(handle, blocks, self.superblock.block_size, fail)
            with self._counting:
                self._large.put(ref, found)
            return found
        few = fetch(handle, blocks, fail) if blocks.total else []
        return (*few, *tail(blocks, self.superblock.block_size))

    def stored_pieces(self, ref: int) -> Iterator[Piece]:
        """Yield the pieces of a file that are no holes, in order; a hole of any size costs next to nothing."""
        handle, blocks, fail = self._blocks(ref)
        return stored(handle, blocks, self.superblock.block_size, fail)

    def _blocks(self, ref: int) -> tuple[Any, Any, Callable[[int], SquashfsError]]:
        """Return a walker over a file's list of blocks, with the open image and what makes an error of a status."""
        handle = self._open()
        blocks = _new_blocks("squash_blocks *")
        self._check(lib.squash_blocks_start(handle, _u64(ref), blocks), "file", ref)
        return handle, blocks, partial(from_status, filename=self.name, what=f"file {ref:#x}")

    def load(self, position: int, stored: int, length: int) -> bytes:
        """Read and decompress one stored block, which is `length` bytes or less: block_size always will do.

        May be called by several threads at once, and then runs at once. A hole (position -1) is `length` zero bytes.
        Raises EIO where the block is longer; that it is shorter is for the caller to see, who knows the file.
        """
        if length < 0 or length > self.superblock.block_size:
            raise self._error(errno.EINVAL, "no block is of that length", "", "SQFS_ERROR_ARG_INVALID")
        if stored == 0:
            return bytes(length)
        # Filled before anybody else can know of it, which saves a copy; 64, since Python shares the shortest ones.
        data = bytes(max(length, 64))
        handle = self._open()
        status = lib.squash_load(handle, _u64(position), stored & 0xFFFFFFFF, ffi.from_buffer(data), length)
        if status != len(data):
            data = data[: self._check(status, "block", position)]
        return data

    def read(self, ref: int, offset: int, size: int) -> bytes:
        """Return a part of a file; it is short where the file ends."""
        if offset < 0 or size < 0:
            raise self._error(errno.EINVAL, "no such range of a file", f"file {ref:#x}", "SQFS_ERROR_ARG_INVALID")
        end = min(offset + size, self.inode(ref).size)
        block_size = self.superblock.block_size
        pieces, parts = self.pieces(ref), []
        for index in range(offset // block_size, -(-end // block_size)):
            piece = pieces[index]
            begin, stop = max(offset - piece.offset, 0), min(end - piece.offset, piece.length)
            parts.append(self._part(ref, piece, begin, stop))
        return b"".join(parts)

    def _part(self, ref: int, piece: Piece, begin: int, stop: int) -> bytes:
        if piece.position < 0:
            return bytes(stop - begin)
        data = self.load(piece.position, piece.stored, self.superblock.block_size)
        if len(data) < piece.start + piece.length:
            raise self._error(
                errno.EIO, "a data block is shorter than its file says", f"file {ref:#x}", "SQFS_ERROR_CORRUPTED"
            )
        return data[piece.start + begin : piece.start + stop]

    def calls(self) -> InodeCalls:
        """Return what answers for inodes without Python; good also when the image is closed."""
        handle = self._open()
        names = ("stat", "link", "read")
        stat, link, read = (_address(ffi.addressof(lib, f"squash_answer_{name}")) for name in names)
        return InodeCalls(_address(handle), stat, link, read, handle)

    def listing_room(self) -> int:
        """Return how many bytes all listings can have together."""
        return self._check(lib.squash_listing_room(self._open()), "directory table", self.superblock.directory_table)

    def walk(self, path: bytes = b"") -> Iterator[tuple[bytes, Inode]]:
        """Go through a directory and all below as `visit` does, with paths relative to it."""
        for trail, inode in self.visit(path):
            yield trail.path, inode

    def visit(self, path: bytes = b"") -> Iterator[tuple[Trail, Inode]]:
        """Go through a directory and all below, parents first, by name; trails begin at it.

        Memory grows with what the directories on the way down hold, not with the length of paths. What cannot be read,
        a directory that appears twice (so it may be its own ancestor) and listings that overlap raise EIO.
        """
        top = self.lookup(path)
        root = Trail(None, b"")
        yield root, top
        seen: set[int] = set()
        stack = [self._inside(root, top, seen)] if S_ISDIR(top.mode) else []
        while stack:
            for trail, inode in stack[-1]:
                yield trail, inode
                if S_ISDIR(inode.mode):
                    stack.append(self._inside(trail, inode, seen))
                    break
            else:
                stack.pop()

    def _inside(self, above: Trail, directory: Inode, seen: set[int]) -> Iterator[tuple[Trail, Inode]]:
        """Give what is in a directory that was not met before."""
        if directory.ref in seen:
            raise self._error(errno.EIO, "a directory appears twice", _said(above.shown), "SQFS_ERROR_LINK_LOOP")
        seen.add(directory.ref)
        found = self.scan(directory.ref)
        return ((Trail(above, name), inode if inode.number else self._whole(inode)) for name, inode in found)

    def _whole(self, inode: Inode) -> Inode:
        """Raise what is wrong with an inode that scan() could not read."""
        self.inode(inode.ref)
        reason = "an entry and its inode disagree about the kind"
        raise self._error(errno.EIO, reason, f"inode {inode.ref:#x}", "SQFS_ERROR_CORRUPTED")

    def _open(self) -> Any:
        handle = self._handle
        if handle is None:
            raise self._error(errno.EBADF, "the image is closed", "", "SQFS_ERROR_SEQUENCE")
        return handle

    def _check(self, status: int, part: str, where: int) -> int:
        if status < 0:
            raise from_status(status, filename=self.name, what=f"{part} {where:#x}")
        return status

    def _error(self, number: int, reason: str, what: str, code: str) -> SquashfsError:
        return SquashfsError(number, reason, filename=self.name, what=what, code=code)


def _superblock(raw: Any) -> Superblock:
    return Superblock(
        raw.inode_count, raw.modification_time, raw.block_size, raw.fragment_count, Compressor(raw.compressor),
        raw.flags, raw.id_count, (raw.version_major, raw.version_minor), raw.root_ref, raw.bytes_used,
        raw.id_table, raw.xattr_table, raw.inode_table, raw.directory_table, raw.fragment_table, raw.export_table,
    )  # fmt: skip


def _one(record: Any) -> Inode:
    return _inode(next(_inodes(ffi.buffer(record))))


def _pairs(packed: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(packed):
        name, value = _lengths(packed, at)
        at += 8
        yield packed[at : at + name], packed[at + name : at + name + value]
        at += name + value


def _address(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))


def _u64(number: int) -> int:
    """Return a reference or position that C can take. A number out of range becomes one that no image has."""
    return number if 0 <= number < 2**64 else ALL


def _said(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
