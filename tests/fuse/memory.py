"""A small file system in memory, served by the engine: `python -m tests.fuse.memory MOUNTPOINT [writeback]`.

With `writeback` it says at the end how many bytes it holds.
Names with a meaning: `bug`, `nothing` and `denied` fail in their ways; `nap` and `slow` answer ENOENT after a while,
from a timer and from a thread; the file `log` lists what was asked (`WRITE SIZE`, `getxattr NAME`, ...).
"""

import errno
import os
import stat
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, cast

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, ReaddirToken, RequestContext, SetattrFields, StatvfsData

from layerfs.fuse import threads
from layerfs.fuse.config import ServeConfig
from layerfs.fuse.handshake import Wanted
from layerfs.fuse.mount import attach
from layerfs.fuse.reply import guard
from layerfs.fuse.server import prepare, run
from layerfs.spec.attach import AttachOptions

HOUR = 3600


@dataclass
class Node:
    """A file or directory."""

    number: int
    mode: int
    data: bytearray = field(default_factory=bytearray)
    names: dict[bytes, int] = field(default_factory=dict)


@guard
class Memory(pyfuse3.Operations):
    """As little as `dd`, `cat`, `ls` and `rm` need."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = {1: Node(1, stat.S_IFDIR | 0o777)}
        self.log = self._add(1, b"log", stat.S_IFREG | 0o444)

    def _add(self, parent: int, name: bytes, mode: int) -> Node:
        node = Node(max(self.nodes) + 1, mode)
        self.nodes[node.number] = node
        self.nodes[parent].names[name] = node.number
        return node

    def _note(self, line: str) -> None:
        self.log.data += line.encode() + b"\n"

    def _entry(self, node: Node) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino = node.number
        entry.st_mode = node.mode
        entry.st_size = len(node.data)
        entry.attr_timeout = entry.entry_timeout = 0 if node is self.log else HOUR
        return entry

    async def lookup(self, parent: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        if name in SPECIAL:
            return await SPECIAL[name]()
        try:
            return self._entry(self.nodes[self.nodes[parent].names[name]])
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such name") from None

    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return self._entry(self.nodes[inode])

    async def setattr(
        self, inode: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        node = self.nodes[inode]
        if fields.update_size:
            node.data = node.data[: attr.st_size].ljust(attr.st_size, b"\0")
        return self._entry(node)

    async def create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        node = self._add(parent, name, mode)
        return FileInfo(fh=node.number), self._entry(node)

    async def unlink(self, parent: int, name: bytes, ctx: RequestContext) -> None:
        del self.nodes[parent].names[name]

    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        return FileInfo(fh=inode, direct_io=self.nodes[inode] is self.log)

    async def read(self, fh: int, offset: int, size: int) -> bytes:
        return bytes(self.nodes[fh].data[offset : offset + size])

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        await threads.run(len, data)
        self._note(f"write {len(data)}")
        node = self.nodes[fh]
        node.data = node.data.ljust(offset, b"\0")
        node.data[offset : offset + len(data)] = data
        return len(data)

    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        self._note(f"getxattr {os.fsdecode(name)}")
        raise OSError(errno.ENODATA, "no such attribute")

    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        return inode

    async def readdir(self, fh: int, start: int, token: ReaddirToken) -> None:
        names = list(self.nodes[fh].names.items())
        for cookie, (name, number) in enumerate(names[start:], start + 1):
            if not pyfuse3.readdir_reply(token, name, self._entry(self.nodes[number]), cookie):
                break

    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        return StatvfsData()

    async def flush(self, fh: int) -> None:
        """Nothing to do."""

    async def release(self, fh: int) -> None:
        """Nothing to do."""

    async def fsync(self, fh: int, datasync: bool) -> None:
        """Nothing to do."""

    async def forget(self, inodes: Sequence[tuple[int, int]]) -> None:
        """Nothing to do."""


async def _bug() -> NoReturn:
    raise ZeroDivisionError


async def _nothing() -> EntryAttributes:
    return cast(EntryAttributes, None)


async def _denied() -> NoReturn:
    raise PermissionError(errno.EPERM, "denied")


async def _nap() -> NoReturn:
    await trio.sleep(0.2)
    raise FileNotFoundError(errno.ENOENT, "no such name")


async def _slow() -> NoReturn:
    await threads.run(time.sleep, 0.2)
    raise FileNotFoundError(errno.ENOENT, "no such name")


async def _forever() -> NoReturn:
    await trio.sleep_forever()
    raise AssertionError


SPECIAL: dict[bytes, Callable[[], Awaitable[EntryAttributes]]] = {
    b"bug": _bug,
    b"nothing": _nothing,
    b"denied": _denied,
    b"nap": _nap,
    b"slow": _slow,
    b"forever": _forever,
}


def main() -> None:
    """Mount, then serve until the end."""
    mountpoint = os.fsencode(sys.argv[1])
    config = ServeConfig(mountpoint)
    prepare(config)
    device = attach(mountpoint, AttachOptions())
    memory = Memory()
    run(device, memory, Wanted(writeback="writeback" in sys.argv), config)
    if "writeback" in sys.argv:
        print(
            f"wrote {sum(len(node.data) for node in memory.nodes.values() if node is not memory.log)} at the end",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
