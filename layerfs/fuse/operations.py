"""The FUSE requests about names and attributes: translate, call the union, answer; those about bytes are in filedata.

Only byte work, copies and syncs await; everything else is atomic.
"""

import errno
import os
import stat
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING

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

from layerfs.fuse import threads, wire
from layerfs.fuse.callers import caller_of, who_is
from layerfs.fuse.config import ServeConfig
from layerfs.fuse.copying import check_client
from layerfs.fuse.filedata import FileData
from layerfs.fuse.freeing import Freeing
from layerfs.fuse.listings import Listings
from layerfs.fuse.loading import Loading
from layerfs.fuse.pagecache import PageCache
from layerfs.fuse.prefetch_attributes import CHUNK, COLD, PROBE, WINDOW, AttributePrefetch
from layerfs.fuse.prefetch_listings import ListingPrefetch
from layerfs.fuse.reply import blank_entry, guard, reply_bare
from layerfs.fuse.space import Space
from layerfs.fuse.syncing import Syncing
from layerfs.union import opened
from layerfs.union.acl import ACCESS_ACL
from layerfs.union.attrs import ACLS, Change
from layerfs.union.inodes import Directory, Node
from layerfs.union.setid import Who
from layerfs.union.state import Attributes
from layerfs.union.union import Union

if TYPE_CHECKING:
    from layerfs.fuse.event_loop import Gate
    from layerfs.fuse.tables import Tables
    from layerfs.lane.lane import Lane

FORGETS = 1000  # in one go: some 2 ms; guessed


@guard
class Operations(FileData):
    """Every request of the kernel, answered from one union."""

    def __init__(
        self,
        union: Union,
        config: ServeConfig,
        pages: PageCache | None = None,
        listings: Listings | None = None,
        space: Space | None = None,
    ) -> None:
        syncing = Syncing(union, sync=config.sync, dirsync=config.dirsync)
        super().__init__(union, pages, syncing, space or Space(union, matters=False))
        union.watch(self._changed)
        self._freeing = Freeing()
        union.close_by(self._freeing.close_last)
        self._listing_prefetch = ListingPrefetch(union.trees)
        union.read_with(self._listing_prefetch.together)
        self._loading = Loading(union, self._listing_prefetch)
        self._attribute_prefetch = AttributePrefetch()
        self._listings = listings or Listings()  # what the prelude has opened stays open
        self._tables: Tables | None = None
        # Answers are written out before the next request is looked at, so one of each kind is enough.
        self._entry = blank_entry(union.options.timeout)
        self._absent = blank_entry(union.options.timeout)
        self._absent.st_ino = InodeT(0)

    def answer_natively(self, lane: "Lane", gate: "Gate") -> None:
        """Hand over to a lane what it can answer, from now on."""
        from layerfs.fuse.tables import Tables

        self._tables = tables = Tables(self.union, lane, self._attribute_prefetch.fetch)
        gate.between = tables.look

    def close(self) -> None:
        """End the helpers."""
        self._listing_prefetch.close()
        self.union.close_by(opened.close)
        self._freeing.close()

    def _changed(self, ino: int) -> None:
        """Hear of a node that the server has changed by itself."""
        self._syncing.changed(ino)
        if self._pages is not None:
            self._pages.changed(ino)

    # Names

    async def lookup(self, parent: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        directory = self.union.directory(parent)
        if directory.listing is None:
            await self._loading.load(directory)
        if self._tables is not None:
            self._tables.offer(directory)
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
        for index, (ino, count) in enumerate(inode_list, 1):
            if not index % FORGETS:  # the kernel has up to 65,000 forgotten at once
                await trio.lowlevel.checkpoint()
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

    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        # A name that is stale by now makes the kernel look it up anew, if it is told so here.
        directory = self.union.directory(inode)
        await self._loading.load(directory)
        if self._tables is not None:
            self._tables.offer(directory)
        return FileHandleT(self._listings.open(inode))

    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        handle = self._listings[fh]
        node = self.union.directory(handle.ino)
        await self._loading.load(node)
        listing = self.union.listing(handle.ino)
        names = handle.since(start_id, listing)
        if start_id < 2 and not self._reply_dots(handle.ino, start_id, token):
            return
        began = perf_counter()
        for count, (cookie, name) in enumerate(names):
            if count == PROBE and perf_counter() - began > PROBE * COLD:
                self._attribute_prefetch.fetch(node, listing.keep_order().after(cookie, WINDOW)[CHUNK:])
            if not self._reply_name(node, name, cookie, token):
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
        await self._syncing.directory(self._listings[fh].ino)

    # Attributes

    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        return self._fill(inode, self.union.attributes(inode))

    async def setattr(
        self, inode: InodeT, attr: EntryAttributes, fields: SetattrFields, fh: FileHandleT | None, ctx: RequestContext
    ) -> EntryAttributes:
        takes_bits = fields.update_size or fields.update_uid or fields.update_gid
        change = Change(
            mode=stat.S_IMODE(attr.st_mode) if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
            who=self._who(inode, ctx) if takes_bits else Who.PRIVILEGED,
        )
        if fields.update_ctime and self.union.is_idle(inode, change):
            return self._fill(inode, self.union.attributes(inode))
        if change.size is None:
            await self._copy_ups.prepare(inode, ctx.pid)
        else:
            await self._copy_ups.ensure(inode, ctx.pid, change.size)
            await self._copy_ups.complete(inode, ctx.pid, cut=change.size == 0)
            await self._cut(inode, change.size)
        st = self.union.set_attributes(inode, change)
        await self._syncing.after_setting(inode)
        return self._fill(inode, st)

    def _who(self, inode: InodeT, ctx: RequestContext) -> Who:
        """Return what a caller is to a file's group."""
        return who_is(ctx, self.union.attributes(inode).st_gid) if ctx.uid else Who.PRIVILEGED

    def _who_sets(self, inode: InodeT, name: bytes, ctx: RequestContext) -> Who:
        return self._who(inode, ctx) if os.fsdecode(name) == ACCESS_ACL else Who.PRIVILEGED

    async def readlink(self, inode: InodeT, ctx: RequestContext) -> bytes:
        return wire.target(self.union.readlink(inode))

    async def getxattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> bytes:
        return self.union.get_xattr(inode, name)

    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[bytes]:
        return self.union.list_xattrs(inode)

    async def setxattr(self, inode: InodeT, name: bytes, value: bytes, ctx: RequestContext) -> None:
        await self._copy_ups.prepare(inode, ctx.pid)
        self.union.set_xattr(inode, name, value, self._who_sets(inode, name, ctx))
        await self._syncing.after_setting(inode)

    async def removexattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        if os.fsdecode(name) not in ACLS:  # an absent ACL is removed without an error
            self.union.get_xattr(inode, name)
        await self._copy_ups.prepare(inode, ctx.pid)
        self.union.remove_xattr(inode, name, self._who_sets(inode, name, ctx))
        await self._syncing.after_setting(inode)

    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        vfs, answer = self.union.statvfs(), StatvfsData()
        answer.f_bsize, answer.f_frsize = vfs.f_bsize, vfs.f_frsize
        answer.f_blocks, answer.f_bfree, answer.f_bavail = vfs.f_blocks, vfs.f_bfree, vfs.f_bavail
        answer.f_files, answer.f_ffree, answer.f_favail = vfs.f_files, vfs.f_ffree, vfs.f_favail
        answer.f_namemax = 255
        return answer

    async def access(self, inode: InodeT, mode: int, ctx: RequestContext) -> bool:
        raise FUSEError(errno.ENOSYS)  # default_permissions: the kernel checks

    # Changes

    async def mknod(self, parent: InodeT, name: bytes, mode: int, rdev: int, ctx: RequestContext) -> EntryAttributes:
        await self._loading.parents(parent)
        return await self._made(parent, self.union.mknod(parent, name, mode, rdev, caller_of(ctx)))

    async def mkdir(self, parent: InodeT, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        await self._loading.parents(parent)
        return await self._made(parent, self.union.mkdir(parent, name, mode, caller_of(ctx)))

    async def symlink(self, parent: InodeT, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        await self._loading.parents(parent)
        return await self._made(parent, self.union.symlink(parent, name, target, caller_of(ctx)))

    async def link(self, inode: InodeT, new_parent: InodeT, new_name: bytes, ctx: RequestContext) -> EntryAttributes:
        await self._loading.parents(new_parent)
        await self._copy_ups.prepare(inode, ctx.pid)
        await self._copy_ups.settle(inode, ctx.pid)
        return await self._made(new_parent, self.union.link(inode, new_parent, new_name))

    async def create(
        self, parent: InodeT, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        await self._loading.parents(parent)
        node = self.union.create(parent, name, mode, caller_of(ctx))
        answer = await self._made(parent, node)
        return self.answer_open(node.ino, flags, ctx), answer

    async def _made(self, parent: int, node: Node) -> EntryAttributes:
        """Answer with a node that was just made, and count that the kernel now knows it."""
        node.lookups += 1
        try:
            if self._syncing.is_eager:
                await self._syncing.after_setting(node.ino)
                await self._syncing.after_change(parent)
            return self._fill(node.ino, self.union.attributes(node.ino))
        except BaseException:
            self.union.forget(node.ino, 1)
            raise

    async def unlink(self, parent: InodeT, name: bytes, ctx: RequestContext) -> None:
        await self._loading.parents(parent)
        await self._copy_ups.settle_victim(parent, name, ctx.pid)
        self.union.unlink(parent, name)
        await self._syncing.after_change(parent)

    async def rmdir(self, parent: InodeT, name: bytes, ctx: RequestContext) -> None:
        await self._loading.parents(parent)
        await self._loading.victim(parent, name)
        self.union.rmdir(parent, name)
        await self._clear()
        await self._syncing.after_change(parent)

    async def _clear(self) -> None:
        """Clear away the directory that was removed: 100,000 whiteouts take a second."""
        if (clear := self.union.clearing()) is not None:
            await threads.run(clear)

    async def rename(
        self, parent: InodeT, name: bytes, to: InodeT, new: bytes, flags: int, ctx: RequestContext
    ) -> None:
        await self._loading.parents(parent, to)
        await self._loading.victim(to, new)
        await self._copy_ups.settle_victim(to, new, ctx.pid)
        for step in self.union.renaming(parent, name, to, new, flags):
            check_client(ctx.pid)  # what was copied so far does no harm
            if isinstance(step, Directory):
                await self._loading.load(step)
            elif step is not None:
                await self._copy_ups.prepare(step.ino, ctx.pid)
                await self._copy_ups.settle(step.ino, ctx.pid)
            await trio.lowlevel.checkpoint()  # a whole tree may be copied: let others in
        await self._clear()
        await self._syncing.after_change(parent, to)
