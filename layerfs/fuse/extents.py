"""The requests about where the bytes of files lie: holes found, made and filled, ranges copied inside the mount.

pyfuse3 knows none of them (raw_requests.py). The kernel flushes the ranges in question before FALLOCATE and
COPY_FILE_RANGE, and drops its pages of them afterwards. What it never passes on: COLLAPSE, INSERT and UNSHARE of
fallocate(2), FICLONE and FICLONERANGE (fs/fuse/file.c).
"""

import errno
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final

from layerfs.fuse import wire
from layerfs.fuse.blocking import Blocking
from layerfs.fuse.filedata import UNPRIVILEGED, FileData
from layerfs.fuse.wire import ClientIds, Request
from layerfs.sys.copy import copy_some, write_all
from layerfs.sys.space import allocate
from layerfs.union import opened
from layerfs.union.setid import Who

# Bytes that one request copies; the client asks again for the rest. Guessed: no disk takes more than seconds for it.
MOST: Final = 64 << 20
_PUNCH: Final = 2  # FALLOC_FL_PUNCH_HOLE, linux/falloc.h
FROM_IMAGE: Final = 1 << 20  # bytes that one request copies out of an image


class Extents:
    """Answers for the files of one union."""

    def __init__(self, files: FileData[Any], blocking: Blocking, flush: Callable[[], Awaitable[None]]) -> None:
        """`flush` has the kernel write back what it holds dirty."""
        self._files = files
        self._union = files.union
        self._blocking = blocking
        self._flush = flush

    async def lseek(self, request: Request, _: ClientIds) -> bytes:
        """Find data or a hole. ENXIO where there is none, up to the end of the file, which counts as a hole."""
        _, offset, whence = wire.LSEEK_REQUEST.unpack_from(request.body)
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        node = self._union.file(request.node)
        if self._union.options.writeback and node.extra is not None and node.extra.written:
            await self._flush()
        handle = self._files.data_handle(node.ino)
        with self._union.busy(node):
            return wire.NUMBER.pack(await self._blocking.run(opened.seek, handle, offset, whence))

    async def fallocate(self, request: Request, client: ClientIds) -> bytes:
        """Reserve, zero or give back a range. EOPNOTSUPP for what the upper's filesystem does not have."""
        handle, offset, length, mode = wire.FALLOCATE_REQUEST.unpack_from(request.body)
        if length > self._blocking.worth and not mode & _PUNCH:
            self._blocking.admit_long()
        fd = await self._writable(request.node, handle, client)
        with self._union.writing(request.node, fd):
            await self._blocking.run(allocate, fd, mode, offset, length)
        return b""

    async def copy(self, request: Request, client: ClientIds) -> bytes:
        """Copy a range from file to file, reflinked where the filesystem can; answers with how much was copied."""
        return wire.WRITE_REPLY.pack(await self._copy(request, client))

    async def copy_64(self, request: Request, client: ClientIds) -> bytes:
        """Copy a range as `copy` does, for a kernel that takes a longer answer."""
        return wire.NUMBER.pack(await self._copy(request, client))

    async def _copy(self, request: Request, client: ClientIds) -> int:
        _, at, number, handle, to, length, flags = wire.COPY_REQUEST.unpack_from(request.body)
        if flags:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        source = self._union.file(request.node)
        if length > self._blocking.worth:  # the kernel asks for no more than there is
            self._blocking.admit_long()
        with self._union.busy(source):
            fd = await self._writable(number, handle, client)
            held = self._union.data_handle(source.ino)
            with self._union.writing(number, fd):
                return await self._blocking.run(_copy_range, held, fd, at, to, length)

    async def _writable(self, number: int, handle: int, client: ClientIds) -> int:
        """Return the descriptor by which an open file is changed, having cleared what a write clears."""
        await self._files.prepare_write(number, client.pid)
        fd = self._union.writable_fd(number)
        if handle & UNPRIVILEGED:
            self._union.drop_sxid(number, Who.MEMBER)
        return fd


def _copy_range(source: opened.Handle, target: int, at: int, to: int, length: int) -> int:
    """Copy at most `length` bytes; fewer at the end of the source, and where that takes long."""
    if isinstance(source, int):
        return copy_some(source, target, min(length, MOST), at, to)
    return write_all(target, source.read(at, min(length, FROM_IMAGE)), to)
