"""The requests of a mount answered by hand, for as long as trio and pyfuse3 are not there.

To import those takes 90 ms of a processor and 10 MB, and most mounts live for a moment or are never busy. So the
answers (answers.py) are given here, one after the other in the only thread, until they have cost as much as the import
would; then a thread imports (serve.py), and the session goes on with what is open. A request that takes long, or that
only libfuse knows, has the import begin: it is held, unanswered, while others are answered here, and libfuse reads it
first (device.py).

Whatever goes wrong with a request is an error of that request: also an answer that the kernel does not take.
"""

import errno
import os
from collections.abc import Callable, Coroutine
from functools import partial
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from layerfs.fuse import bodies, wire
from layerfs.fuse.answers import Answers
from layerfs.fuse.attending import Attending
from layerfs.fuse.blocking import Inline, TooLong, finish
from layerfs.fuse.config import ServeConfig
from layerfs.fuse.device import Attendants, Device
from layerfs.fuse.failures import answered, errno_for
from layerfs.fuse.kept import Kept
from layerfs.fuse.natively import is_imported, open_lane
from layerfs.fuse.natively import pays as natively_pays
from layerfs.fuse.wire import Opcode, Request
from layerfs.lane.events import LaneEvent
from layerfs.union.state import Attributes
from layerfs.union.union import Union

if TYPE_CHECKING:
    from layerfs.fuse.extents import Extents
    from layerfs.fuse.raw_inodes import RawInodes
    from layerfs.lane.lane import Lane

Body = bytes | bytearray | memoryview
Answer = Coroutine[Any, Any, Body | None]
Entry = tuple[int, Attributes | None]
_KEEP_CACHE, _DIRECT_IO = 1 << 1, 1 << 0  # FOPEN_*
_LOOKS: Final = frozenset({
    Opcode.LOOKUP, Opcode.FORGET, Opcode.GETATTR, Opcode.READLINK, Opcode.READ, Opcode.STATFS, Opcode.RELEASE,
    Opcode.GETXATTR, Opcode.LISTXATTR, Opcode.FLUSH, Opcode.OPENDIR, Opcode.READDIR, Opcode.RELEASEDIR, Opcode.ACCESS,
    Opcode.INTERRUPT, Opcode.DESTROY, Opcode.POLL, Opcode.BATCH_FORGET, Opcode.READDIRPLUS, Opcode.STATX, Opcode.LSEEK,
})  # fmt: skip


class Page:
    """One answer of a listing, with room for so many bytes; `plus` with attributes."""

    def __init__(self, room: int, *, plus: bool) -> None:
        self._room = room
        self.plus = plus
        self.entries: list[bytes] = []

    def add(self, entry: bytes) -> bool:
        """Add an entry; False if there is no room for it."""
        self._room -= len(entry)
        if self._room < 0:
            return False
        self.entries.append(entry)
        return True


class ByHand(Answers[Entry, bytes, Page]):
    """The answers in the wire's own forms."""

    _absent: Entry = (0, None)

    def __init__(self, union: Union, config: ServeConfig, kept: Kept, blocking: Inline) -> None:
        super().__init__(union, config, kept, blocking)
        self._replies = wire.Replies(union.options.timeout)

    def entry(self, entry: Entry) -> bytes:
        """Return what the kernel is told of a name; number 0: that it is absent, which it remembers."""
        return self._replies.entry(*entry)

    def attributes(self, entry: Entry) -> bytes:
        """Return what the kernel is told of a node."""
        ino, st = entry
        assert st is not None
        return self._replies.attributes(ino, st)

    def _fill(self, ino: int, st: Attributes) -> Entry:
        return ino, st

    def _file(self, handle: int, *, through: bool) -> bytes:
        return wire.OPEN_REPLY.pack(handle, _KEEP_CACHE | _DIRECT_IO * through, 0)

    def _list(self, page: Page, name: bytes, ino: int, st: Attributes, cookie: int) -> bool:
        entry = wire.dirent(ino, cookie, name, st.st_mode)
        return page.add(self._replies.entry(ino, st) + entry if page.plus else entry)

    def _list_bare(self, page: Page, name: bytes, cookie: int) -> bool:
        return page.add(wire.bare_dirent(cookie, name, plus=page.plus))

    def _counts(self, page: Page) -> bool:
        return page.plus


class Prelude:
    """Reads requests from the device, has them answered, and writes the answers."""

    def __init__(
        self, union: Union, config: ServeConfig, kept: Kept, writes: Callable[[], None], *, natively: bool = False
    ) -> None:
        """`writes` is called before the first request that changes something; `natively` allows a lane."""
        self._union = union
        self._kept = kept
        self._writes = writes
        self._blocking = Inline()
        self._answers = ByHand(union, config, kept, self._blocking)
        self._lane_at = natively_pays() if natively else inf
        if natively and is_imported():
            kept.read_natively()
        self._met = 0  # requests
        self.spent = 0.0  # seconds, on answers

    def answer(self, device: Device, beside: Attending) -> None:
        """Answer requests until a session has been imported, and hold those that are not for us.

        When the mount is left all are for us, but what only libfuse knows. OSError: ENODEV if unmounted.
        """
        self._see_whether_lane_pays(device)
        attend: Attendants = {LaneEvent.WRITE: partial(self._write_to, beside), LaneEvent.LIST: self._answers.hand_over}
        for message in device.requests(beside, attend):
            began = perf_counter()
            request = wire.request(message)
            self._blocking.begin(began)
            self._blocking.is_last = beside.is_leaving
            beside.met(began, shows_root=request.opcode == Opcode.GETATTR and request.node == wire.ROOT)
            if not self._kept.has_written and _writes(request):
                self._kept.note_writing(natively=not self._answers.is_eager)
                self._writes()
            answer = None if self._waits_for_disk(request, beside) else _ANSWERS.get(request.opcode)
            if answer is None or not _serve(device, request, answer(self, request)):
                device.held.append(message)
                if beside.is_leaving:
                    return
                beside.begin_import()
            self._met += 1
            self.spent += perf_counter() - began
            beside.has_spent(self.spent)
            if device.tables is None:  # they see to it
                self._union.has_room()
            self._see_whether_lane_pays(device)

    def _see_whether_lane_pays(self, device: Device) -> None:
        """Have a lane stand at the device as soon as there were enough requests; one with a ring at once."""
        if device.tables is None and (device.ring is not None or self._met >= self._lane_at):
            lane = device.ring or open_lane(device.fd, self._union.options.timeout)
            device.tables = self._kept.answer_natively(lane)

    def _write_to(self, beside: Attending, lane: "Lane") -> None:
        """Answer a WRITE where the lane has it, which saves two copies; not the first change, nor one for the disk.

        What it takes does not count: a session would take as long.
        """
        if not self._kept.has_written or self._answers.is_eager:
            return
        beside.met(perf_counter(), shows_root=False)
        lane.written(*answered(self._answers.write_now, *lane.writing()))

    def _waits_for_disk(self, request: Request, beside: Attending) -> bool:
        """Tell whether a change is to be on disk before it is acknowledged, and others could be answered meanwhile."""
        return self._answers.is_eager and not beside.is_leaving and _writes(request)

    # Each takes a request and returns what follows the answer's header; None: there is no answer.

    async def _lookup(self, r: Request) -> Body:
        return self._answers.entry(await self._answers.lookup(r.node, bodies.name(r.body), r))

    async def _forget(self, r: Request) -> None:
        await self._answers.forget([(r.node, *wire.NUMBER.unpack_from(r.body))])

    async def _batch_forget(self, r: Request) -> None:
        await self._answers.forget(list(wire.forgotten(r.body)))

    async def _getattr(self, r: Request) -> Body:
        return self._answers.attributes(await self._answers.getattr(r.node, r))

    async def _setattr(self, r: Request) -> Body:
        wanted = bodies.setattr_of(r.body)
        return self._answers.attributes(await self._answers.setattr(r.node, wanted, wanted, None, r))

    async def _readlink(self, r: Request) -> Body:
        return await self._answers.readlink(r.node, r)

    async def _symlink(self, r: Request) -> Body:
        name, target = bodies.two_names(r.body)
        return self._answers.entry(await self._answers.symlink(r.node, name, target, r))

    async def _mknod(self, r: Request) -> Body:
        mode, rdev, umask, _ = bodies.MKNOD.unpack_from(r.body)
        name, client = bodies.name(r.body, bodies.MKNOD.size), bodies.with_umask(r, umask)
        return self._answers.entry(await self._answers.mknod(r.node, name, mode, rdev, client))

    async def _mkdir(self, r: Request) -> Body:
        mode, umask = bodies.MKDIR.unpack_from(r.body)
        name, client = bodies.name(r.body, bodies.MKDIR.size), bodies.with_umask(r, umask)
        return self._answers.entry(await self._answers.mkdir(r.node, name, mode, client))

    async def _unlink(self, r: Request) -> Body:
        await self._answers.unlink(r.node, bodies.name(r.body), r)
        return b""

    async def _rmdir(self, r: Request) -> Body:
        await self._answers.rmdir(r.node, bodies.name(r.body), r)
        return b""

    async def _rename(self, r: Request) -> Body:
        (to,) = wire.NUMBER.unpack_from(r.body)
        name, new = bodies.two_names(r.body, wire.NUMBER.size)
        await self._answers.rename(r.node, name, to, new, 0, r)
        return b""

    async def _rename2(self, r: Request) -> Body:
        to, flags, _ = bodies.RENAME2.unpack_from(r.body)
        name, new = bodies.two_names(r.body, bodies.RENAME2.size)
        await self._answers.rename(r.node, name, to, new, flags, r)
        return b""

    async def _link(self, r: Request) -> Body:
        (ino,) = wire.NUMBER.unpack_from(r.body)
        name = bodies.name(r.body, wire.NUMBER.size)
        return self._answers.entry(await self._answers.link(ino, r.node, name, r))

    async def _open(self, r: Request) -> Body:
        flags, _ = bodies.OPEN.unpack_from(r.body)
        return await self._answers.open(r.node, flags, r)

    async def _create(self, r: Request) -> Body:
        flags, mode, umask, _ = bodies.CREATE.unpack_from(r.body)
        name, client = bodies.name(r.body, bodies.CREATE.size), bodies.with_umask(r, umask)
        opened, entry = await self._answers.create(r.node, name, mode, flags, client)
        return self._answers.entry(entry) + opened

    async def _read(self, r: Request) -> Body:
        handle, offset, size, _ = wire.READ_REQUEST.unpack_from(r.body)
        return await self._answers.read(handle or r.node, offset, size)  # 0: the kernel has opened it by itself

    async def _write(self, r: Request) -> Body:
        handle, offset, data = bodies.written(r.body)
        size = await self._answers.write(handle, offset, data)  # type: ignore[arg-type]  # any buffer will do
        return bodies.WRITTEN.pack(size, 0)

    async def _release(self, r: Request) -> Body:
        await self._answers.release(*wire.NUMBER.unpack_from(r.body))
        return b""

    async def _flush(self, r: Request) -> Body:
        await self._answers.flush(*wire.NUMBER.unpack_from(r.body))
        return b""

    async def _fsync(self, r: Request) -> Body:
        handle, flags, _ = bodies.FSYNC.unpack_from(r.body)
        await self._answers.fsync(handle, bool(flags & bodies.DATA_ONLY))
        return b""

    async def _fsyncdir(self, r: Request) -> Body:
        handle, flags, _ = bodies.FSYNC.unpack_from(r.body)
        await self._answers.fsyncdir(handle or r.node, bool(flags & bodies.DATA_ONLY))
        return b""

    async def _statfs(self, _: Request) -> Body:
        return wire.statfs(self._union.statvfs())

    async def _getxattr(self, r: Request) -> Body:
        wanted, _ = wire.XATTR_REQUEST.unpack_from(r.body)
        return wire.xattr(wanted, await self._answers.getxattr(r.node, bodies.name(r.body, wire.XATTR_REQUEST.size), r))

    async def _listxattr(self, r: Request) -> Body:
        wanted, _ = wire.XATTR_REQUEST.unpack_from(r.body)
        return bodies.xattr_names(wanted, await self._answers.listxattr(r.node, r))

    async def _setxattr(self, r: Request) -> Body:
        name, value, flags = bodies.setxattr_of(r.body)
        if flags & os.XATTR_CREATE:
            try:
                await self._answers.getxattr(r.node, name, r)
            except OSError as error:
                if error.errno != errno.ENODATA:
                    raise
            else:
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        elif flags & os.XATTR_REPLACE:
            await self._answers.getxattr(r.node, name, r)
        await self._answers.setxattr(r.node, name, value, r)
        return b""

    async def _removexattr(self, r: Request) -> Body:
        await self._answers.removexattr(r.node, bodies.name(r.body), r)
        return b""

    async def _access(self, r: Request) -> Body:
        await self._answers.access(r.node, 0, r)
        return b""

    async def _opendir(self, r: Request) -> Body:
        return wire.OPEN_REPLY.pack(await self._answers.opendir(r.node, r), 0, 0)

    async def _readdir(self, r: Request) -> Body:
        return await self._page(r, plus=False)

    async def _readdirplus(self, r: Request) -> Body:
        return await self._page(r, plus=True)

    async def _page(self, r: Request, *, plus: bool) -> Body:
        handle, offset, room, _ = wire.READ_REQUEST.unpack_from(r.body)
        page = Page(room, plus=plus)
        await self._answers.readdir(handle or r.node, offset, page)
        return b"".join(page.entries)

    async def _releasedir(self, r: Request) -> Body:
        await self._answers.releasedir(*wire.NUMBER.unpack_from(r.body))
        return b""

    async def _ioctl(self, r: Request) -> Body:
        if bodies.is_for_terminal(r.body):
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        return await self._raw().ioctl(r, _client(r))

    async def _statx(self, r: Request) -> Body:
        return self._raw().statx(r, _client(r))

    async def _tmpfile(self, r: Request) -> Body:
        return await self._raw().tmpfile(r, _client(r))

    async def _lseek(self, r: Request) -> Body:
        return await self._extents().lseek(r, _client(r))

    async def _fallocate(self, r: Request) -> Body:
        return await self._extents().fallocate(r, _client(r))

    async def _copy_file_range(self, r: Request) -> Body:
        return await self._extents().copy(r, _client(r))

    async def _copy_file_range_64(self, r: Request) -> Body:
        return await self._extents().copy_64(r, _client(r))

    def _extents(self) -> "Extents":
        from layerfs.fuse.extents import Extents  # as few

        return Extents(self._answers, self._blocking, _flush)

    def _raw(self) -> "RawInodes":
        from layerfs.fuse.raw_inodes import RawInodes  # few clients ask for what is there

        return RawInodes(self._answers)

    async def _poll(self, _: Request) -> Body:
        raise OSError(errno.ENOSYS, "always ready")  # as pyfuse3 says; a Go program polls each file that it opens

    async def _interrupt(self, _: Request) -> None:
        """Pass over it: what it is about was answered before it came."""

    async def _destroy(self, _: Request) -> Body:
        return b""


_ANSWERS: Final[dict[int, Callable[[Prelude, Request], Answer]]] = {
    Opcode[name[1:].upper()]: answer for name, answer in vars(Prelude).items() if name[1:].upper() in Opcode.__members__
}


def _client(request: Request) -> wire.ClientIds:
    return wire.ClientIds(request.uid, request.gid, request.pid)


async def _flush() -> None:
    """Leave it to the session to have the kernel write back: it asks us to write meanwhile."""
    raise TooLong


def _writes(request: Request) -> bool:
    """Tell whether a request may change something."""
    if request.opcode != Opcode.OPEN:
        return request.opcode not in _LOOKS
    flags, _ = bodies.OPEN.unpack_from(request.body)
    return flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)


def _serve(device: Device, request: Request, answer: Answer) -> bool:
    """Answer one request; a failure is its client's alone. False if the session is to answer it."""
    try:
        body = finish(answer)
        if body is not None:
            device.answer(request.unique, body)
        return True
    except TooLong:
        return False
    except Exception as error:
        code = errno_for(error, f"request {request.opcode}")
    if request.opcode not in wire.UNANSWERED:
        device.fail(request.unique, code)
    return True
