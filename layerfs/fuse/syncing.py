"""fsync(2) and the options `sync` and `dirsync`: what is acknowledged is on disk.

A copy-up renames a file into the upper, and makes directories there. Whoever syncs a file that was just copied up has
changed the file alone, as far as they know; so the directories that the copy-up has changed are synced with it.
"""

import os
from collections.abc import Iterator
from typing import Final

from layerfs.fuse.blocking import Blocking
from layerfs.fuse.config import SYNCS
from layerfs.sys.logs import logger
from layerfs.sys.prctl import set_name
from layerfs.union.inodes import Directory, File, Node
from layerfs.union.union import Union

MANY: Final = 10_000  # directories; with more it is as well to sync the whole upper


class Syncing:
    """Knows which files and directories of one union's upper must be synced together."""

    def __init__(
        self, union: Union, changed: set[int], blocking: Blocking, *, sync: bool = False, dirsync: bool = False
    ) -> None:
        """With `sync` each change is synced before it is acknowledged, with `dirsync` each change of a name.

        `changed` are the nodes that the server has changed by itself since they were synced.
        """
        self._union = union
        self._active = union.options.fsync and not union.options.volatile and not union.read_only
        self._sync = sync and self._active
        self._dirsync = dirsync and self._active
        self._changed = changed
        self._blocking = blocking

    @property
    def is_active(self) -> bool:
        """Whether anything is ever synced."""
        return self._active

    @property
    def is_eager(self) -> bool:
        """Whether changes are synced before they are acknowledged."""
        return self._sync or self._dirsync

    def changed(self, ino: int) -> None:
        """Note a node that the server has changed by itself: what a copy-up made, and where."""
        if self._active:
            self._changed.add(ino)

    async def file(self, ino: int, *, datasync: bool = False) -> None:
        """Sync an open file of the upper; there is nothing to do for a file that no one has changed."""
        node = self._union.file(ino)
        if not self._active or not node.is_upper:
            return
        handle = self._union.data_handle(ino)
        if not isinstance(handle, int):
            return
        self._blocking.admit_long()
        call = os.fdatasync if datasync and ino not in self._changed else os.fsync
        with self._union.busy(node):
            await self._blocking.run(call, handle)
        self._changed.discard(ino)
        await self._directories_above(node)

    async def directory(self, ino: int) -> None:
        """Sync a directory's share of the upper, if it has one."""
        if self._active:
            await self._directory(ino)
            await self._directories_above(self._union.directory(ino))

    async def after_change(self, *directories: int) -> None:
        """Do what `sync` and `dirsync` ask for when names in these directories have changed."""
        if self.is_eager:
            for ino in directories:
                await self.directory(ino)

    async def after_setting(self, ino: int) -> None:
        """Do what `sync` asks for when attributes of a node have changed."""
        if not self._sync:
            return
        if isinstance(node := self._union.node(ino), Directory):
            await self.directory(ino)
        elif node.parent is not None:
            fd = self._union.open_to_sync(ino)
            if fd is not None:
                await self._sync_and_close(fd)
            await self._directories_above(node)

    async def _directory(self, ino: int) -> None:
        fd = self._union.upper_fd(ino)
        if fd is not None:
            await self._sync_and_close(os.dup(fd))
            self._changed.discard(ino)

    async def _directories_above(self, node: Node) -> None:
        """Sync the directories on the way to a node in which a copy-up has changed something."""
        if len(self._changed) > MANY:
            self._changed.clear()
            await self._blocking.run(self._union.sync)
            return
        for ino in [ino for ino in _above(node) if ino in self._changed]:
            await self._directory(ino)

    async def _sync_and_close(self, fd: int) -> None:
        try:
            await self._blocking.run(os.fsync, fd)
        finally:
            os.close(fd)


def bring_to_disk(union: Union) -> None:
    """Sync the upper, as kernel overlayfs does when it is unmounted, and show that by this process's name."""
    set_name(SYNCS)
    try:
        union.sync()
    except OSError as error:
        logger(__name__).error("what was written last may not be on disk: %s", error)


def _above(node: Node) -> Iterator[int]:
    """Yield the directories that hold a node, by any of its known names, and those above them."""
    aliases = node.extra.aliases if isinstance(node, File) and node.extra is not None else ()
    for first in (node.parent, *(parent for parent, _ in aliases)):
        step = first
        while step is not None:
            yield step.ino
            step = step.parent
