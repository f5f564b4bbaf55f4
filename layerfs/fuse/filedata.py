"""The FUSE requests about the bytes of files.

A file's handle is its number, since all who have a file open share its data; the top bit marks an opener without
CAP_FSETID, whose writes clear setuid and setgid (we told the kernel that we do that: HANDLE_KILLPRIV_V2).
"""

import errno
import os
import stat
from mmap import MAP_PRIVATE, mmap
from time import perf_counter
from typing import TYPE_CHECKING, Generic, TypeVar

from layerfs.fuse.blocking import Blocking
from layerfs.fuse.callers import Client, who_is
from layerfs.fuse.config import ServeConfig
from layerfs.fuse.copying import CopyUps
from layerfs.fuse.kept import Kept
from layerfs.fuse.prefetch_attributes import COLD
from layerfs.fuse.prefetch_data import FEED
from layerfs.fuse.syncing import Syncing
from layerfs.fuse.wire import MAX_WRITE
from layerfs.sys.copy import write_all, write_or_undo
from layerfs.union import opened
from layerfs.union.inodes import File
from layerfs.union.setid import Who
from layerfs.union.union import Union

if TYPE_CHECKING:
    from layerfs.fuse.implicit import ImplicitOpens
    from layerfs.fuse.pagecache import PageCache

FileAnswer = TypeVar("FileAnswer")
UNPRIVILEGED = 1 << 63  # in a file handle
NUMBER = UNPRIVILEGED - 1
FREED = 64 << 20  # bytes that a filesystem frees in some 20 ms
SMALL = 64 << 10  # bytes; up to this a read waits for the disk as a lookup does: one seek, less than a thread hop


class FileData(Generic[FileAnswer]):
    """Opens, reads, writes and syncs the files of one union; subclasses give the answer to an open its form."""

    def __init__(self, union: Union, config: ServeConfig, kept: Kept, blocking: Blocking) -> None:
        self.union = union
        self._kept = kept
        self._pages = kept.pages
        self._implicit = kept.implicit
        self._blocking = blocking
        self._syncing = Syncing(union, kept.changed, blocking, sync=config.sync, dirsync=config.dirsync)
        self._copy_ups = CopyUps(union, blocking)
        self._view = memoryview(mmap(-1, MAX_WRITE, MAP_PRIVATE))  # unlike a bytearray it takes no memory until used
        self.waiting = 0  # handlers of raw requests that have begun and not ended

    @property
    def is_eager(self) -> bool:
        """Whether changes are on disk before they are acknowledged."""
        return self._syncing.is_eager

    def _file(self, handle: int, *, through: bool) -> FileAnswer:
        """Return the answer to an open; the kernel keeps what it has cached of the file, or writes `through`."""
        raise NotImplementedError

    async def open(self, inode: int, flags: int, ctx: Client) -> FileAnswer:
        if self._implicit is not None:
            raise OSError(errno.ENOSYS, "not needed")  # the kernel never asks again
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
                if os.fstat(fd).st_size - size > FREED:
                    self._blocking.admit_long()
                await self._blocking.run(os.ftruncate, fd, size)

    def _preload(self, node: File, pages: "PageCache") -> None:
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
                self._kept.data_prefetch.opened(node.parent, node.name, waited=waited)
            if len(data) == size:
                pages.store(node.ino, data)

    def answer_open(self, ino: int, flags: int, ctx: Client) -> FileAnswer:
        """Return the answer to an open, good until the next one."""
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        if ctx.uid and writes:
            st = self.union.attributes(ino)
            if st.st_mode & stat.S_ISGID and who_is(ctx, st.st_gid) is Who.OUTSIDER:
                self.union.file(ino).opened().outsider = True
        handle = ino | UNPRIVILEGED if ctx.uid else ino
        return self._file(handle, through=writes and self._kept.space.is_short)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        if self._implicit is not None:
            return await self._read_unopened(self._implicit, fh & NUMBER, off, size)
        return await self._read(fh & NUMBER, off, size)

    async def _read_unopened(self, implicit: "ImplicitOpens", ino: int, off: int, size: int) -> bytes:
        """Read from a file that nobody has opened; close it again if that was all of it."""
        began = perf_counter()
        is_first = self._open_implicitly(implicit, ino)
        data = await self._read(ino, off, size)
        if off == 0 and ino in implicit:
            node, whole = self.union.file(ino), opened.stat(self.union.data_handle(ino)).st_size
            if is_first and not node.preloaded and whole <= FEED and node.parent is not None:
                self._kept.data_prefetch.opened(node.parent, node.name, waited=perf_counter() - began > COLD)
            node.preloaded = True
            if len(data) >= whole:
                implicit.close(ino)
                self._closed(ino)
        return data

    def _open_implicitly(self, implicit: "ImplicitOpens", ino: int) -> bool:
        """Open a file that the kernel has opened by itself, and tell whether that was needed."""
        try:
            return implicit.open(ino)
        except OSError:
            if self._pages is not None:
                self._pages.changed(ino)  # the next open(2) asks for the attributes, is told ESTALE, and looks it up
            raise

    def data_handle(self, ino: int) -> opened.Handle:
        """Return what a file is read from that a client has open."""
        if self._implicit is not None:
            self._open_implicitly(self._implicit, ino)
        return self.union.data_handle(ino)

    async def _read(self, ino: int, off: int, size: int) -> bytes:
        fd = self.union.data_handle(ino)
        if not isinstance(fd, int):
            return await self._read_image(ino, fd, off, size)
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
        node = self.union.file(ino)
        with self.union.busy(node):
            return await self._blocking.run(os.pread, fd, size, off)

    async def _read_image(self, ino: int, image: opened.Foreign, off: int, size: int) -> bytes:
        """Read from a file in an image; what takes longer than a thread hop is read in a thread."""
        data = image.ready(off, size)
        if data is None:
            with self.union.busy(self.union.file(ino)):
                data = await self._blocking.run(image.read, off, size)
        return data  # type: ignore[return-value]  # any buffer will do

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        ino = fh & NUMBER
        fd = self.union.writable_fd(ino)
        if fh & UNPRIVILEGED:
            self.union.drop_sxid(ino, Who.MEMBER)
        with self.union.writing(ino, fd):
            # A queue of large writes would take memory without end.
            if len(buf) < self._blocking.worth or self._blocking.is_crowded():
                return self._write(ino, fd, buf, off)
            return await self._blocking.run(write_all, fd, buf, off)

    def write_now(self, fh: int, off: int, data: memoryview) -> int:
        """Write as `write` does, without a thread: `data` is the lane's buffer, which is reused after this call."""
        ino = fh & NUMBER
        fd = self.union.writable_fd(ino)
        if fh & UNPRIVILEGED:
            self.union.drop_sxid(ino, Who.MEMBER)
        with self.union.writing(ino, fd):
            return self._write(ino, fd, data, off)

    def _write(self, ino: int, fd: int, data: bytes | memoryview, off: int) -> int:
        """Write at once. One write(2) may be several requests; where the upper gets full, the client is told only of
        those that succeeded. So a request that fails leaves nothing: an append that goes on later would stand after it.
        """
        if self.union.file(ino).opened().busy > 1:  # a thread writes, too
            return write_all(fd, data, off)
        return write_or_undo(fd, data, off)

    async def flush(self, fh: int) -> None:
        raise OSError(errno.ENOSYS, "not needed")  # the kernel never asks again; close(2) has written back by itself

    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._syncing.file(fh & NUMBER, datasync=datasync)

    async def release(self, fh: int) -> None:
        self.union.release(fh & NUMBER)
        self._closed(fh & NUMBER)

    def _closed(self, ino: int) -> None:
        """Let the lane have a file again that was closed."""
        if self._kept.tables is not None and not self.waiting:
            self._kept.tables.closed(ino)
