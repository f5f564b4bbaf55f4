"""The FUSE requests: translate, call the union, answer. Only byte work awaits; everything else is atomic.

A file's handle is its number, since all who have a file open share its data; the top bit marks an opener without
CAP_FSETID, whose writes clear setuid and setgid (we told the kernel that we do that: HANDLE_KILLPRIV_V2).
"""

import errno
import os
import stat
from collections.abc import Sequence
from time import perf_counter

import pyfuse3
import trio
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FUSEError,
    InodeT,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
)

from layerfs.fuse import threads
from layerfs.fuse.config import ServeConfig
from layerfs.fuse.listings import Listings
from layerfs.fuse.pagecache import PageCache
from layerfs.fuse.prefetch_attributes import CHUNK, COLD, PROBE, WINDOW, AttributePrefetch
from layerfs.fuse.prefetch_data import FEED, DataPrefetch
from layerfs.fuse.prefetch_listings import ListingPrefetch
from layerfs.fuse.reply import blank_entry, guard, reply_bare
from layerfs.sys.copy import write_all
from layerfs.union import opened
from layerfs.union.attrs import ACLS, Change
from layerfs.union.inodes import Directory, File, Node
from layerfs.union.mutate import Caller
from layerfs.union.state import Attributes
from layerfs.union.union import Union

UNPRIVILEGED = 1 << 63  # in a file handle
NUMBER = UNPRIVILEGED - 1
LARGE = 256 << 10  # bytes; above this a write, and a copy-up, is worth the 100 us of a thread hop
SMALL = 64 << 10  # bytes; up to this a read waits for the disk as a lookup does: one seek, less than a thread hop
MAX_IO = 1 << 20  # bytes; max_write of the handshake


@guard
class Operations(pyfuse3.Operations):
    """Every request of the kernel, answered from one union."""

    def __init__(
        self,
        union: Union,
        config: ServeConfig,
        pages: PageCache | None = None,
        listings: Listings | None = None,
    ) -> None:
        super().__init__()
        self.union = union
        self._pages = pages
        self.config = config
        if pages is not None:
            union.watch(pages.changed)
        self._listing_prefetch = ListingPrefetch(union.trees)
        union.read_with(self._listing_prefetch.together)
        self._attribute_prefetch = AttributePrefetch()
        self._data_prefetch = DataPrefetch()
        self._listings = listings or Listings()  # what the prelude has opened stays open
        self._locks: dict[int, trio.Lock] = {}
        self._buffer = bytearray(MAX_IO)
        self._view = memoryview(self._buffer)
        # Answers are written out before the next request is looked at, so one of each kind is enough.
        self._entry = blank_entry(union.options.timeout)
        self._absent = blank_entry(union.options.timeout)
        self._absent.st_ino = InodeT(0)
        self._file = FileInfo(keep_cache=True)
        self._syncs = union.options.fsync and not union.options.volatile

    def close(self) -> None:
        """End the helpers."""
        self._listing_prefetch.close()

    # Names

    async def lookup(self, parent: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        directory = self.union.directory(parent)
        if self.union.load(directory):
            self._listing_prefetch.loaded(directory)
        began = perf_counter()
        try:
            node, st = self.union.lookup_in(directory, name)
        except FileNotFoundError:
            return self._absent
        if perf_counter() - began > COLD:
            self._attribute_prefetch.waited(directory)
        node.lookups += 1
        return self._fill(node.ino, st)

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        for ino, count in inode_list:
            self.union.forget(ino, count)

    def _fill(self, ino: int, st: Attributes) -> EntryAttributes:
        entry = self._entry
        entry.st_ino = ino
        entry.st_mode = st.st_mode
        entry.st_nlink = st.st_nlink
        entry.st_uid = st.st_uid
        entry.st_gid = st.st_gid
        entry.st_rdev = st.st_rdev
        entry.st_size = st.st_size
        entry.st_blocks = st.st_blocks
        entry.st_atime_ns = st.st_atime_ns
        entry.st_mtime_ns = st.st_mtime_ns
        entry.st_ctime_ns = st.st_ctime_ns
        return entry

    def _answer(self, node: Node) -> EntryAttributes:
        """Answer with a node that was just made, and count that the kernel now knows it."""
        st = self.union.attributes(node.ino)
        node.lookups += 1
        return self._fill(node.ino, st)

    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        self.union.directory(inode)
        return FileHandleT(self._listings.open(inode))

    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        listing = self._listings[fh]
        node = self.union.directory(listing.ino)
        names = listing.names
        if start_id == 0 or names is None:
            fresh = self.union.load(node)
            names = self._listings.rewind(fh, self.union.names(listing.ino))
            if fresh:
                self._listing_prefetch.loaded(node)
        if start_id < 2 and not self._reply_dots(listing.ino, start_id, token):
            return
        start = max(start_id - 2, 0)
        began = perf_counter()
        for index, name in enumerate(names.since(start), start):
            if index == start + PROBE and perf_counter() - began > PROBE * COLD:
                self._attribute_prefetch.fetch(node, names.part(index + CHUNK, index + WINDOW))
            if not self._reply_name(node, name, index + 3, token):
                return

    def _reply_dots(self, ino: int, start: int, token: ReaddirToken) -> bool:
        """Reply `.` and `..`; the kernel takes no lookup count for them."""
        names = ((b".", ino), (b"..", self.union.parent_of(ino)))
        for index in range(start, 2):
            name, number = names[index]
            entry = self._fill(number, self.union.attributes(number))
            if not pyfuse3.readdir_reply(token, name, entry, index + 1):
                return False
        return True

    def _reply_name(self, parent: Directory, name: bytes, cookie: int, token: ReaddirToken) -> bool:
        try:
            node, st = self.union.lookup_in(parent, name)
        except FileNotFoundError:
            return True  # gone since the rewind
        except OSError:
            return reply_bare(token, name, cookie)
        if pyfuse3.readdir_reply(token, name, self._fill(node.ino, st), cookie):
            node.lookups += 1
            return True
        self.union.drop(node)
        return False

    async def releasedir(self, fh: FileHandleT) -> None:
        self._listings.close(fh)

    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        fd = self.union.upper_fd(self._listings[fh].ino) if self._syncs else None
        if fd is not None:
            fd = os.dup(fd)
            try:
                await threads.run(os.fsync, fd)
            finally:
                os.close(fd)

    # Attributes

    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        return self._fill(inode, self.union.attributes(inode))

    async def setattr(
        self, inode: InodeT, attr: EntryAttributes, fields: SetattrFields, fh: FileHandleT | None, ctx: RequestContext
    ) -> EntryAttributes:
        change = Change(
            mode=stat.S_IMODE(attr.st_mode) if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
            drop_sxid=ctx.uid != 0,
        )
        if fields.update_ctime and self.union.is_idle(inode, change):
            return self._fill(inode, self.union.attributes(inode))
        if change.size is None:
            await self._own(inode)
        return self._fill(inode, self.union.set_attributes(inode, change))

    async def readlink(self, inode: InodeT, ctx: RequestContext) -> bytes:
        return self.union.readlink(inode)

    async def getxattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> bytes:
        return self.union.get_xattr(inode, name)

    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[bytes]:
        return self.union.list_xattrs(inode)

    async def setxattr(self, inode: InodeT, name: bytes, value: bytes, ctx: RequestContext) -> None:
        await self._own(inode)
        self.union.set_xattr(inode, name, value)

    async def removexattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        if os.fsdecode(name) not in ACLS:  # an absent ACL is removed without an error
            self.union.get_xattr(inode, name)
        await self._own(inode)
        self.union.remove_xattr(inode, name)

    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        vfs, answer = self.union.statvfs(), StatvfsData()
        answer.f_bsize, answer.f_frsize = vfs.f_bsize, vfs.f_frsize
        answer.f_blocks, answer.f_bfree, answer.f_bavail = vfs.f_blocks, vfs.f_bfree, vfs.f_bavail
        answer.f_files, answer.f_ffree, answer.f_favail = vfs.f_files, vfs.f_ffree, vfs.f_favail
        answer.f_namemax = 255
        return answer

    # Changes

    async def mknod(self, parent: InodeT, name: bytes, mode: int, rdev: int, ctx: RequestContext) -> EntryAttributes:
        return self._answer(self.union.mknod(parent, name, mode, rdev, _caller(ctx)))

    async def mkdir(self, parent: InodeT, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        return self._answer(self.union.mkdir(parent, name, mode, _caller(ctx)))

    async def symlink(self, parent: InodeT, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        return self._answer(self.union.symlink(parent, name, target, _caller(ctx)))

    async def link(self, inode: InodeT, new_parent: InodeT, new_name: bytes, ctx: RequestContext) -> EntryAttributes:
        await self._own(inode)
        return self._answer(self.union.link(inode, new_parent, new_name))

    async def unlink(self, parent: InodeT, name: bytes, ctx: RequestContext) -> None:
        self.union.unlink(parent, name)

    async def rmdir(self, parent: InodeT, name: bytes, ctx: RequestContext) -> None:
        self.union.rmdir(parent, name)

    async def rename(
        self, parent: InodeT, name: bytes, to: InodeT, new: bytes, flags: int, ctx: RequestContext
    ) -> None:
        for file in self.union.renaming(parent, name, to, new, flags):
            await self._own(file.ino)
            await trio.lowlevel.checkpoint()  # a whole tree may be copied: let others in

    # Data

    async def _own(self, ino: int) -> None:
        """Copy a large lower file up in a thread, so that others are answered meanwhile.

        Small ones go inline, later.
        """
        node = self.union.node(ino)
        if not isinstance(node, File) or not self.union.is_large_lower(node, LARGE):
            return
        async with self._locks.setdefault(ino, trio.Lock()):
            staged = self.union.stage(node)
            if staged is None:
                return
            try:
                await threads.run(staged.copy)
                self.union.adopt(staged)
            except BaseException:
                staged.discard()
                raise
            finally:
                self._locks.pop(ino, None)

    async def open(self, inode: InodeT, flags: int, ctx: RequestContext) -> FileInfo:
        if flags & os.O_ACCMODE != os.O_RDONLY and not flags & os.O_TRUNC:
            await self._own(inode)
        node = self.union.open_file(inode, flags)
        if flags & os.O_TRUNC and ctx.uid:
            self.union.drop_sxid(inode)
        if not node.preloaded and self._pages is not None and not node.is_upper:
            self._feed(node)
        return self._opened(inode, ctx)

    def _feed(self, node: File) -> None:
        """Give the kernel a small lower file's data with its first open.

        They cannot be dirty, and most are read next.
        """
        node.preloaded = True
        assert self._pages is not None
        fd = self.union.data_handle(node.ino)
        size = opened.stat(fd).st_size
        if not isinstance(fd, int):
            if 0 < size <= FEED and (stored := fd.ready(0, size)):
                self._pages.store(node.ino, stored)
        elif 0 < size <= FEED:
            began = perf_counter()
            data = os.pread(fd, size, 0)
            waited = perf_counter() - began > COLD
            if node.parent is not None:
                self._data_prefetch.opened(node.parent, node.name, waited=waited)
            if len(data) == size:
                self._pages.store(node.ino, data)

    def _opened(self, ino: int, ctx: RequestContext) -> FileInfo:
        self._file.fh = ino | UNPRIVILEGED if ctx.uid else ino
        return self._file

    async def create(
        self, parent: InodeT, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        node = self.union.create(parent, name, mode, _caller(ctx))
        return self._opened(node.ino, ctx), self._answer(node)

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
            self.union.drop_sxid(ino)
        if len(buf) < LARGE:
            return write_all(fd, buf, off)
        with self.union.busy(self.union.file(ino)):
            return await threads.run(write_all, fd, buf, off)

    async def flush(self, fh: FileHandleT) -> None:
        raise FUSEError(errno.ENOSYS)  # the kernel never asks again; close(2) has written back by itself

    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        if not self._syncs:
            return
        ino = fh & NUMBER
        fd = self.union.data_handle(ino)
        if not isinstance(fd, int):
            return
        with self.union.busy(self.union.file(ino)):
            await threads.run(os.fdatasync if datasync else os.fsync, fd)

    async def release(self, fh: FileHandleT) -> None:
        self.union.release(fh & NUMBER)

    async def access(self, inode: InodeT, mode: int, ctx: RequestContext) -> bool:
        raise FUSEError(errno.ENOSYS)  # default_permissions: the kernel checks


def _caller(ctx: RequestContext) -> Caller:
    return Caller(ctx.uid, ctx.gid, ctx.umask)
