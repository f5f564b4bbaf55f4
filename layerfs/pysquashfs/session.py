"""One image being written: the calls of write.c, with every failure an exception. They leave the interpreter's lock."""

import errno
import os
import threading
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Self

from layerfs.pysquashfs._squashfs import ffi, lib
from layerfs.pysquashfs.errors import SquashfsError
from layerfs.pysquashfs.options import LZ4_HIGH, WriteOptions
from layerfs.pysquashfs.values import Compressor

PADDING = 4096  # bytes; a loop device ends at a multiple of its blocks, and a kernel's page is the largest
SLICE = 1 << 20  # bytes a call, which may wait for as many to be compressed, before signals and progress get their turn


class Common(NamedTuple):
    """What every inode has. xattrs: index of a set of them."""

    number: int
    mode: int
    uid: int
    gid: int
    mtime: int
    links: int
    xattrs: int


class Session:
    """The writer behind an image that begins at a position of a descriptor: content, then metadata, then `finish`."""

    def __init__(self, fd: int, position: int, options: WriteOptions, name: bytes) -> None:
        """Raises SquashfsError. `name` is the image's, for errors. Close it, finished or not."""
        self._name = name
        self._in_thread = threading.Lock()  # held while another thread uses the writer
        out = ffi.new("sw_writer **")
        level = -1 if options.level is None or options.compressor is Compressor.LZ4 else options.level
        how = (options.compressor.value, level, options.block_size, options.thread_count, _flags(options))
        done = lib.sw_create(fd, position, *how, out)
        self._writer = out[0]
        if done < 0:
            error = self._failure(done, "beginning")
            self.close()
            raise error

    def close(self) -> None:
        """Drop what is not written yet and free the writer. What was written stays in the file."""
        writer, self._writer = self._writer, ffi.NULL
        if writer:
            lib.sw_give_up(writer)
        with self._in_thread:
            lib.sw_destroy(writer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self) -> None:
        """Begin a file's content."""
        self._check(lib.sw_file_begin(self._writer), "data blocks")

    def append(self, data: bytes) -> None:
        """Add bytes to the content."""
        self._check(lib.sw_append(self._writer, ffi.from_buffer(data), len(data)), "data blocks")

    def copy(self, fd: int, position: int, end: int) -> int:
        """Add about SLICE bytes of a file, its holes as holes, and return how far it came.

        Raises OSError if the file cannot be read, EOFError if it ends before `end`.
        """
        done: int = lib.sw_copy(self._writer, fd, position, end, SLICE)
        if done == lib.SW_SOURCE:
            number = lib.sw_errno(self._writer)
            raise OSError(number, os.strerror(number))
        if done == lib.SW_CHANGED:
            raise EOFError
        return self._check(done, "data blocks")

    def end(self) -> int:
        """End the content and return its index."""
        return self._check(lib.sw_file_end(self._writer), "data blocks")

    def end_of_content(self) -> None:
        """Wait for all blocks to be written; after it comes metadata.

        Hundreds may have to be compressed yet. A thread of its own waits for them, so that a signal can end it here.
        """
        done: list[int] = []
        waiting = threading.Thread(target=self._wait_for_content, args=(done,), name="squashfs")
        waiting.start()
        waiting.join()
        self._check(done[0], "data blocks")

    def _wait_for_content(self, done: list[int]) -> None:
        with self._in_thread:
            if self._writer:  # else it was closed before this thread began
                done.append(lib.sw_content_end(self._writer))

    def xattrs(self, attributes: Mapping[bytes, bytes]) -> int:
        """Store a set of extended attributes and return its index."""
        if not attributes:
            return lib.SW_NO_XATTRS  # type: ignore[no-any-return]
        self._check(lib.sw_xattr_begin(self._writer), "extended attributes")
        for name, value in sorted(attributes.items()):
            self._check(lib.sw_xattr_add(self._writer, name, ffi.from_buffer(value), len(value)), "extended attributes")
        return self._check(lib.sw_xattr_end(self._writer), "extended attributes")

    def listing(self, entries: Iterable[tuple[bytes, int, int, int]], parent: int) -> int:
        """Write a listing of (name, inode number, inode reference, mode) and return its index."""
        writer, add = self._writer, lib.sw_directory_entry
        self._check(lib.sw_directory_begin(writer), "directory table")
        for name, number, ref, mode in entries:
            if (done := add(writer, name, number, ref, mode)) < 0:
                self._check(done, "directory table")
        return self._check(lib.sw_directory_end(writer, parent), "directory table")

    def inode(self, common: Common, what: int, target: bytes) -> int:
        """Write an inode and return its reference. what: index of content or listing, or device number as on disk."""
        done = lib.sw_inode(self._writer, *common, what, target, len(target))
        return self._check(done, "inode table")

    def finish(self, inodes: int, root: int, mtime: int) -> int:
        """Write the tables and the superblock, pad, and return the image's length [bytes]."""
        return self._check(lib.sw_finish(self._writer, inodes, root, mtime, PADDING), "tables")

    def _check(self, done: int, what: str) -> int:
        if done < 0:
            raise self._failure(done, what)
        return done

    def _failure(self, code: int, what: str) -> SquashfsError:
        """libsquashfs's code as an exception; where a system call failed, with its errno."""
        name, number, why = CODES.get(code, ("SQFS_ERROR_INTERNAL", errno.EIO, "an unexpected failure"))
        if name == "SQFS_ERROR_IO":
            number = lib.sw_errno(self._writer) or errno.EIO
            why = os.strerror(number)
        return SquashfsError(number, why, filename=self._name or None, what=what, code=name)


# What libsquashfs's codes (error.h) mean while writing.
CODES = {
    -1: ("SQFS_ERROR_ALLOC", errno.ENOMEM, "not enough memory"),
    -2: ("SQFS_ERROR_IO", errno.EIO, "input or output failed"),
    -3: ("SQFS_ERROR_COMPRESSOR", errno.EIO, "the compressor failed"),
    -6: ("SQFS_ERROR_UNSUPPORTED", errno.EOPNOTSUPP, "libsquashfs does not support it"),
    -7: ("SQFS_ERROR_OVERFLOW", errno.EFBIG, "more than the format can hold"),
    -16: ("SQFS_ERROR_ARG_INVALID", errno.EINVAL, "libsquashfs refuses these values"),
    -17: ("SQFS_ERROR_SEQUENCE", errno.EINVAL, "calls in the wrong order"),
}


def _flags(options: WriteOptions) -> int:
    """The options that are yes or no, as write.h numbers them."""
    chosen = {
        lib.SW_COMPRESS_INODES: options.compress_inodes,
        lib.SW_COMPRESS_XATTRS: options.compress_xattrs,
        lib.SW_COMPRESS_DATA: options.compress_data,
        lib.SW_FRAGMENTS: options.fragments,
        lib.SW_DEDUPLICATE: options.deduplicate,
        lib.SW_EXPORT: options.export,
        lib.SW_LZ4_HC: options.compressor is Compressor.LZ4 and (options.level or 0) >= LZ4_HIGH,
    }
    return sum(flag for flag, wanted in chosen.items() if wanted)
