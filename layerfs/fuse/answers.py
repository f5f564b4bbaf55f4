"""The FUSE requests about names and attributes: call the union, answer; those about bytes are in filedata.

Only byte work, copies and syncs await (blocking.py); everything else is atomic. Who reads the requests and writes the
answers is another matter: the prelude by hand, then pyfuse3 (operations.py).
"""

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from layerfs.fuse import wire
from layerfs.fuse.blocking import Blocking
from layerfs.fuse.callers import Client, caller_of, who_is
from layerfs.fuse.config import ServeConfig
from layerfs.fuse.copying import check_client
from layerfs.fuse.filedata import FileAnswer, FileData
from layerfs.fuse.kept import Kept
from layerfs.fuse.loading import Loading
from layerfs.fuse.prefetch_attributes import CHUNK, COLD, PROBE, WINDOW
from layerfs.fuse.prefetch_listings import sleeps
from layerfs.sys import dirs
from layerfs.sys.later import later
from layerfs.union.acl import ACCESS_ACL
from layerfs.union.inodes import Directory, Node
from layerfs.union.setid import Who
from layerfs.union.state import Attributes
from layerfs.union.union import Union

if TYPE_CHECKING:
    from layerfs.lane.lane import Lane
    from layerfs.union import attrs
else:  # a mount that is only looked at needs nothing that changes files
    (attrs,) = later("layerfs.union", "attrs")

FORGETS = 1000  # in one go: some 2 ms; guessed
MANY_FORGETS = 10 * FORGETS
EntryAnswer = TypeVar("EntryAnswer")
Page = TypeVar("Page")


class Attributed(Protocol):
    """The values of attributes that a client sets; `Fields` says which of them count."""

    @property
    def st_mode(self) -> int: ...
    @property
    def st_uid(self) -> int: ...
    @property
    def st_gid(self) -> int: ...
    @property
    def st_size(self) -> int: ...
    @property
    def st_atime_ns(self) -> int: ...
    @property
    def st_mtime_ns(self) -> int: ...


class Fields(Protocol):
    """Says which attributes of an `Attributed` a client sets."""

    @property
    def update_atime(self) -> bool: ...
    @property
    def update_mtime(self) -> bool: ...
    @property
    def update_ctime(self) -> bool: ...
    @property
    def update_mode(self) -> bool: ...
    @property
    def update_uid(self) -> bool: ...
    @property
    def update_gid(self) -> bool: ...
    @property
    def update_size(self) -> bool: ...


class Answers(FileData[FileAnswer], Generic[EntryAnswer, FileAnswer, Page]):
    """Every request of the kernel, answered from one union.

    Those who write answers have their own forms of a node with its attributes, of an open file, and of the page of a
    listing that is being filled.
    """

    _absent: EntryAnswer

    def __init__(self, union: Union, config: ServeConfig, kept: Kept, blocking: Blocking) -> None:
        super().__init__(union, config, kept, blocking)
        union.watch(self._changed)
        self._loading = Loading(union, kept.listing_prefetch, blocking)
        self._attribute_prefetch = kept.attribute_prefetch

    # What whoever writes the answers adds

    def _fill(self, ino: int, st: Attributes) -> EntryAnswer:
        """Return a node's attributes."""
        raise NotImplementedError

    def _list(self, page: Page, name: bytes, ino: int, st: Attributes, cookie: int) -> bool:
        """Add an entry to a page; False if there is no room for it."""
        raise NotImplementedError

    def _list_bare(self, page: Page, name: bytes, cookie: int) -> bool:
        """Add a name that cannot be looked at now; False if there is no room for it."""
        raise NotImplementedError

    def _counts(self, page: Page) -> bool:
        """Tell whether the kernel counts a lookup of each entry of the page."""
        raise NotImplementedError

    def _changed(self, ino: int) -> None:
        """Note a node whose attributes the server changed without a request for that."""
        self._syncing.changed(ino)
        if self._pages is not None:
            self._pages.changed(ino)

    # Names

    async def lookup(self, parent: int, name: bytes, ctx: Client) -> EntryAnswer:
        directory = self.union.directory(parent)
        if directory.listing is None:
            await self._loading.load(directory)
        if self._kept.tables is not None:
            self._kept.tables.offer(directory)
        began = perf_counter()
        try:
            node, st = self.union.lookup_in(directory, name)
        except FileNotFoundError:
            return self._absent
        if perf_counter() - began > COLD:
            self._attribute_prefetch.waited(directory)
        node.lookups += 1
        return self._fill(node.ino, st)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        if len(inode_list) > MANY_FORGETS:
            self._blocking.admit_long()
        for index, (ino, count) in enumerate(inode_list, 1):
            if not index % FORGETS:  # the kernel has up to 65,000 forgotten at once
                await self._blocking.rest()
            if self._implicit is not None:
                self._implicit.close(ino)
            self.union.forget(ino, count)

    async def opendir(self, inode: int, ctx: Client) -> int:
        """Return a handle, which is the directory's number: nothing is held for whoever has it open."""
        if self._kept.no_opendir:
            raise OSError(errno.ENOSYS, "not needed")  # the kernel never asks again
        # A name that is stale by now makes the kernel look it up anew, if it is told so here.
        await self._loading.load(self.union.directory(inode))
        return inode

    def hand_over(self, lane: "Lane") -> None:
        """Hand over the directory that is to be listed, if that takes a moment; else `readdir` is asked.

        What fails is left to `readdir` as well, where it fails again.
        """
        with suppress(Exception):
            directory = self.union.directory(lane.listing())
            if self._loading.at_once(directory) and self._kept.tables is not None:
                self._kept.tables.offer(directory)

    async def readdir(self, fh: int, start_id: int, token: Page) -> None:
        node = self.union.directory(fh)
        try:
            await self._loading.load(node)
        except OSError:
            if self._pages is not None:
                self._pages.changed(fh)  # the next open(2) asks for the attributes, is told ESTALE, and looks it up
            raise
        if self._kept.tables is not None:
            self._kept.tables.offer(node)
        listing = self.union.listing(fh)
        names = listing.since(start_id)
        if start_id < 2 and not self._reply_dots(fh, start_id, token):
            return
        began, slept = perf_counter(), sleeps()
        for count, (cookie, name) in enumerate(names):
            if count == PROBE and perf_counter() - began > PROBE * COLD and sleeps() > slept:
                self._attribute_prefetch.fetch(node, listing.keep_order().after(cookie, WINDOW)[CHUNK:])
            if not self._reply_name(node, name, cookie, token):
                return

    def _reply_dots(self, ino: int, start: int, token: Page) -> bool:
        """Reply `.` and `..`; the kernel takes no lookup count for them."""
        names = ((b".", ino), (b"..", self.union.parent_of(ino)))
        for index in range(start, 2):
            name, number = names[index]
            if not self._list(token, name, number, self.union.attributes(number), index + 1):
                return False
        return True

    def _reply_name(self, parent: Directory, name: bytes, cookie: int, token: Page) -> bool:
        try:
            node, st = self.union.lookup_in(parent, name)
        except FileNotFoundError:
            return True  # gone since the rewind
        except OSError:
            return self._list_bare(token, name, cookie)
        has_room = self._list(token, name, node.ino, st, cookie)
        if has_room and self._counts(token):
            node.lookups += 1
        else:
            self.union.drop(node)
        return has_room

    async def releasedir(self, fh: int) -> None:
        """Do nothing: nothing is held."""

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        if self._syncing.is_active:
            self._blocking.admit_long()
        await self._syncing.directory(fh)

    # Attributes

    async def getattr(self, inode: int, ctx: Client) -> EntryAnswer:
        return self._fill(inode, self.union.attributes(inode))

    async def setattr(self, inode: int, attr: Attributed, fields: Fields, fh: int | None, ctx: Client) -> EntryAnswer:
        takes_bits = fields.update_size or fields.update_uid or fields.update_gid
        change = attrs.Change(
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

    def _who(self, inode: int, ctx: Client) -> Who:
        """Return what a caller is to a file's group."""
        return who_is(ctx, self.union.attributes(inode).st_gid) if ctx.uid else Who.PRIVILEGED

    def _who_sets(self, inode: int, name: bytes, ctx: Client) -> Who:
        return self._who(inode, ctx) if os.fsdecode(name) == ACCESS_ACL else Who.PRIVILEGED

    async def readlink(self, inode: int, ctx: Client) -> bytes:
        return wire.target(self.union.readlink(inode))

    async def getxattr(self, inode: int, name: bytes, ctx: Client) -> bytes:
        return self.union.get_xattr(inode, name)

    async def listxattr(self, inode: int, ctx: Client) -> Sequence[bytes]:
        return self.union.list_xattrs(inode)

    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: Client) -> None:
        await self._copy_ups.prepare(inode, ctx.pid)
        self.union.set_xattr(inode, name, value, self._who_sets(inode, name, ctx))
        await self._syncing.after_setting(inode)

    async def removexattr(self, inode: int, name: bytes, ctx: Client) -> None:
        if os.fsdecode(name) not in attrs.ACLS:  # an absent ACL is removed without an error
            self.union.get_xattr(inode, name)
        await self._copy_ups.prepare(inode, ctx.pid)
        self.union.remove_xattr(inode, name, self._who_sets(inode, name, ctx))
        await self._syncing.after_setting(inode)

    async def access(self, inode: int, mode: int, ctx: Client) -> bool:
        raise OSError(errno.ENOSYS, "not needed")  # default_permissions: the kernel checks

    # Changes

    async def mknod(self, parent: int, name: bytes, mode: int, rdev: int, ctx: Client) -> EntryAnswer:
        await self._loading.parents(parent)
        return await self._made(parent, self.union.mknod(parent, name, mode, rdev, caller_of(ctx)))

    async def mkdir(self, parent: int, name: bytes, mode: int, ctx: Client) -> EntryAnswer:
        await self._loading.parents(parent)
        return await self._made(parent, self.union.mkdir(parent, name, mode, caller_of(ctx)))

    async def symlink(self, parent: int, name: bytes, target: bytes, ctx: Client) -> EntryAnswer:
        await self._loading.parents(parent)
        return await self._made(parent, self.union.symlink(parent, name, target, caller_of(ctx)))

    async def link(self, inode: int, new_parent: int, new_name: bytes, ctx: Client) -> EntryAnswer:
        await self._loading.parents(new_parent)
        await self._copy_ups.prepare(inode, ctx.pid)
        await self._copy_ups.settle(inode, ctx.pid)
        return await self._made(new_parent, self.union.link(inode, new_parent, new_name))

    async def create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: Client
    ) -> tuple[FileAnswer, EntryAnswer]:
        await self._loading.parents(parent)
        node = self.union.create(parent, name, mode, caller_of(ctx))
        answer = await self._made(parent, node)
        return self.answer_open(node.ino, flags, ctx), answer

    async def _made(self, parent: int, node: Node) -> EntryAnswer:
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

    async def unlink(self, parent: int, name: bytes, ctx: Client) -> None:
        await self._loading.parents(parent)
        await self._copy_ups.settle_victim(parent, name, ctx.pid)
        self.union.unlink(parent, name)
        await self._syncing.after_change(parent)

    async def rmdir(self, parent: int, name: bytes, ctx: Client) -> None:
        await self._loading.parents(parent)
        await self._loading.victim(parent, name)
        self.union.rmdir(parent, name)
        await self._clear()
        await self._syncing.after_change(parent)

    async def _clear(self) -> None:
        """Clear away the directory that was removed: 100,000 whiteouts take a second."""
        if (clear := self.union.clearing()) is not None:
            await self._blocking.run(clear)

    async def rename(self, parent: int, name: bytes, to: int, new: bytes, flags: int, ctx: Client) -> None:
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
            await self._blocking.turn()  # a whole tree may be copied: let others in
        if parent != to:
            self._note_moved(to, new)
            if flags & dirs.RENAME_EXCHANGE:
                self._note_moved(parent, name)
        await self._clear()
        await self._syncing.after_change(parent, to)

    def _note_moved(self, parent: int, name: bytes) -> None:
        """Have a directory listed anew that has another parent now: a listing tells what `..` is."""
        tables, is_kept = self._kept.tables, self._kept.no_opendir
        if not (tables or is_kept) or not isinstance(self.union.listing(parent).names.get(name), tuple):
            return  # nobody keeps listings, or it is a file
        node, _ = self.union.lookup_in(self.union.directory(parent), name)
        if tables is not None:
            tables.relist(node.ino)
        if is_kept and self._pages is not None:
            self._pages.listing_changed(node.ino)
        self.union.drop(node)
