"""The FUSE requests about the bytes of files.

A file's handle is its number, since all who have a file open share its data; the top bit marks an opener without
CAP_FSETID, whose writes clear setuid and setgid (we told the kernel that we do that: HANDLE_KILLPRIV_V2).
"""

import errno
import os
import stat
from time import perf_counter

import pyfuse3
from pyfuse3 import FileHandleT, FileInfo, FUSEError, InodeT, RequestContext

from layerfs.fuse import threads
from layerfs.fuse.callers import Client, who_is
from layerfs.fuse.copying import LARGE, CopyUps
from layerfs.fuse.pagecache import PageCache
from layerfs.fuse.prefetch_attributes import COLD
from layerfs.fuse.prefetch_data import FEED, DataPrefetch
from layerfs.fuse.space import Space
from layerfs.fuse.syncing import Syncing
from layerfs.fuse.wire import MAX_WRITE
from layerfs.sys.copy import write_all
from layerfs.union import opened
from layerfs.union.inodes import File
from layerfs.union.setid import Who
from layerfs.union.union import Union

UNPRIVILEGED = 1 << 63  # in a file handle
NUMBER = UNPRIVILEGED - 1
SMALL = 64 << 10  # bytes; up to this a read waits for the disk as a lookup does: one seek, less than a thread hop


class FileData(pyfuse3.Operations):
    """Opens, reads, writes and syncs the files of one union."""

    def __init__(self, union: Union, pages: PageCache | None, syncing: Syncing, space: Space) -> None:
        super().__init__()
        self.union = union
        self._pages = pages
        self._syncing = syncing
        self._space = space
        self._copy_ups = CopyUps(union)
        self._data_prefetch = DataPrefetch()
        self._buffer = bytearray(MAX_WRITE)
        self._view = memoryview(self._buffer)
        # An answer is written out before the next request is looked at, so one of each kind is enough.
        self._file = FileInfo(keep_cache=True)
        self._through = FileInfo(keep_cache=True, direct_io=True)

    async def open(self, inode: InodeT, flags: int, ctx: RequestContext) -> FileInfo:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            await self.prepare_write(inode, ctx.pid, cut=bool(flags & os.O_TRUNC))
        if flags & os.O_TRUNC:
            await self._cut(inode, 0)
        node = self.union.open_file(inode, flags)
        if flags & os.O_TRUNC and ctx.uid:
            self.union.drop_sxid(inode, who_is(ctx, self.union.attributes(inode).st_gid))
        if not node.preloaded and self._pages is not None and not node.is_upper:
            self._preload(node, self._pages)
        return self.answer_open(inode, flags, ctx)

    async def prepare_write(self, ino: int, client: int, *, cut: bool = False) -> None:
        """Copy a large file up before it is written to; with `cut` its data are not needed."""
        if not cut:
            await self._copy_ups.ensure(ino, client)
        await self._copy_ups.complete(ino, client, cut=cut)

    async def _cut(self, ino: int, size: int) -> None:
        """Shorten a large file of the upper in a thread: a filesystem frees 300 MB in 100 ms."""
        with self.union.cutting(ino, size) as fd:
            if fd is not None:
                await threads.run(os.ftruncate, fd, size)

    def _preload(self, node: File, pages: PageCache) -> None:
        """Give the kernel a small lower file's data with its first open.

        They cannot be dirty, and most are read next.
        """
        node.preloaded = True
        handle = self.union.data_handle(node.ino)
        size = opened.stat(handle).st_size
        if not isinstance(handle, int):
            if 0 < size <= FEED and (stored := handle.ready(0, size)):
                pages.store(node.ino, stored)
        elif 0 < size <= FEED:
            began = perf_counter()
            data = os.pread(handle, size, 0)
            waited = perf_counter() - began > COLD
            if node.parent is not None:
                self._data_prefetch.opened(node.parent, node.name, waited=waited)
            if len(data) == size:
                pages.store(node.ino, data)

    def answer_open(self, ino: int, flags: int, ctx: Client) -> FileInfo:
        """Return the answer to an open, good until the next one."""
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        file = self._through if writes and self._space.is_short else self._file
        if ctx.uid and writes:
            st = self.union.attributes(ino)
            if st.st_mode & stat.S_ISGID and who_is(ctx, st.st_gid) is Who.OUTSIDER:
                self.union.file(ino).opened().outsider = True
        file.fh = ino | UNPRIVILEGED if ctx.uid else ino
        return file

    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        fd = self.union.data_handle(fh & NUMBER)
        if not isinstance(fd, int):
            return await self._read_image(fh & NUMBER, fd, off, size)
        view = self._view[:size]
        if size <= SMALL:
            return view[: os.preadv(fd, [view], off)]  # type: ignore[return-value]
        try:
            done = os.preadv(fd, [view], off, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP):
                raise
            done = -1
        if done == size or (done >= 0 and off + done >= os.fstat(fd).st_size):
            return view[:done]  # type: ignore[return-value]
        node = self.union.file(fh & NUMBER)
        with self.union.busy(node):
            return await threads.run(os.pread, fd, size, off)

    async def _read_image(self, ino: int, image: opened.Foreign, off: int, size: int) -> bytes:
        """Read from a file in an image; what takes longer than a thread hop is read in a thread."""
        data = image.ready(off, size)
        if data is None:
            with self.union.busy(self.union.file(ino)):
                data = await threads.run(image.read, off, size)
        return data  # type: ignore[return-value]  # pyfuse3 takes any buffer

    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        ino = fh & NUMBER
        fd = self.union.writable_fd(ino)
        if fh & UNPRIVILEGED:
            self.union.drop_sxid(ino, Who.MEMBER)
        with self.union.writing(ino, fd):
            if len(buf) < LARGE or threads.are_crowded():  # a queue of large writes would take memory without end
                return write_all(fd, buf, off)
            return await threads.run(write_all, fd, buf, off)

    async def flush(self, fh: FileHandleT) -> None:
        raise FUSEError(errno.ENOSYS)  # the kernel never asks again; close(2) has written back by itself

    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        await self._syncing.file(fh & NUMBER, datasync=datasync)

    async def release(self, fh: FileHandleT) -> None:
        self.union.release(fh & NUMBER)
