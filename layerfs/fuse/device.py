"""The FUSE device, and which of our readers reads it next.

    we, at FUSE_INIT -- the prelude, by hand -- libfuse, for the rest of the mount's life

Only one of them reads at a time, and what one has read and cannot answer the next one gets first: `held`. libfuse needs
a FUSE_INIT of its own (handshake.py says why), so it begins on a socket on which we play the kernel: there it finds
that FUSE_INIT, then the requests that were held, one after the other.

Then, without a lane, the device takes the socket's number (dup2), and event_loop.py says when libfuse reads it.

A lane (layerfs/lane) stands before both from the moment when there is one: it reads the device, answers what it can,
and gives the rest to the prelude; later it hands that to libfuse, in memory where libfuse lets us (lane/memory.c), else
on the socket, and gives the kernel what libfuse answers. So a message that passes is limited by what a socket takes at
once.
"""

import _socket as socket  # without what `socket` adds, which takes 10 ms to import
import errno
import os
import select
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from mmap import MAP_PRIVATE, mmap
from typing import TYPE_CHECKING, Final, Self

from layerfs.fuse import wire
from layerfs.lane.events import LaneEvent

if TYPE_CHECKING:
    from layerfs.fuse.attending import Attending
    from layerfs.fuse.tables import Tables
    from layerfs.lane.lane import Lane

# Taken back by a client that was killed between poll and read, or by the end of the mount: then ENODEV comes next.
_TAKEN_BACK = (errno.ENOENT, errno.EINTR, errno.EAGAIN, errno.ECONNABORTED)

# Pages of data in a message that passes through the socket: larger ones take the kernel long, since it wants memory in
# one piece for what 17 fragments do not hold.
PASSING_PAGES: Final = 64
_SO_SNDBUFFORCE: Final = 32  # asm-generic/socket.h
_OVERHEAD: Final = 32768  # bytes beside the data: headers, what the kernel counts for a message itself


class Device:
    """A mounted /dev/fuse descriptor, which this owns. Not shared: one reader after the other."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.held: deque[bytes] = deque()  # messages that were read and not answered, oldest first
        self.tables: Tables | None = None  # of the lane that reads in our place
        self.ring: Lane | None = None  # by which requests come and answers go, in the device's place

    def again(self) -> "Device":
        """Return a second one for who only answers; its descriptor is its own."""
        other = Device(os.dup(self.fd))
        other.ring = self.ring
        return other

    def requests(self, beside: "Attending", attend: "Attendants | None" = None) -> Iterator[bytes]:
        """Yield messages until what is attended to `beside` says that it is over. OSError: ENODEV if unmounted.

        What a lane tells of before it passes a request on is for `attend`, by the event. What was held is yielded
        again once the mount is to be left: then nobody comes after us.
        """
        os.set_blocking(self.fd, False)  # event_loop.Workers says why; and nothing else would be attended to
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        beside.watch(poll)
        buffer = memoryview(mmap(-1, wire.ROOM, MAP_PRIVATE))  # unlike a bytearray it takes no memory before it is used
        while self.tables is None:
            ready = [fd for fd, _ in poll.poll(beside.patience())]
            if beside.is_over(fd for fd in ready if fd != self.fd):
                return
            while beside.is_leaving and self.held:
                yield self.held.popleft()
            beside.look()
            if self.fd not in ready:
                continue
            try:
                size = os.readv(self.fd, [buffer])
            except OSError as error:
                if error.errno in _TAKEN_BACK:
                    continue
                raise
            yield bytes(buffer[:size])
        buffer.release()
        yield from self._passed(self.tables, beside, attend or {})

    def _passed(self, tables: "Tables", beside: "Attending", attend: "Attendants") -> Iterator[bytes]:
        """Yield what a lane does not answer, in the same way."""
        lane, spins = tables.lane, len(os.sched_getaffinity(0)) > 1
        with select.epoll() as poll:  # the lane can wait for it; trio must not find it later
            beside.watch(poll)
            beside.natively = lane
            while True:
                tables.look()
                patience = beside.patience()
                event = lane.wait(poll.fileno(), -1, -1 if patience is None else patience, spin=spins)
                if beside.is_over(fd for fd, _ in poll.poll(0)) if event == LaneEvent.OTHER else False:
                    return
                while beside.is_leaving and self.held:
                    yield self.held.popleft()
                beside.look()
                if event == LaneEvent.RAW:
                    yield lane.raw()
                elif (attendant := attend.get(event)) is not None:
                    attendant(lane)  # what it leaves comes raw

    def answer(self, unique: int, body: bytes | bytearray | memoryview) -> None:
        """Answer a request. OSError: the kernel does not take this answer."""
        try:
            if self.ring is not None:
                self.ring.reply(unique, 0, body)
            else:
                os.writev(self.fd, (wire.reply_header(unique, len(body)), body))
        except FileNotFoundError:
            pass  # the client was killed meanwhile, or the mount is gone

    def fail(self, unique: int, code: int) -> None:
        """Answer a request with an errno, unless the kernel has given it up."""
        with suppress(OSError):  # whether the mount is gone is seen at the next read
            if self.ring is not None:
                self.ring.reply(unique, wire.errno_of(code))
            else:
                os.write(self.fd, wire.failure(unique, code))

    def introduce(self, open_lane: "LaneOpener | None" = None) -> "Introduction":
        """Hand the device over to libfuse, or to the lane that is opened; from now on it is the introduction's."""
        fd, self.fd = self.fd, -1
        tables, self.tables = self.tables, None
        return Introduction(fd, self.held, open_lane, tables)

    def close(self) -> None:
        """Close the device, if it is still ours, and the lane."""
        if self.tables is not None:
            self.tables.lane.close()
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


Attendants = Mapping[LaneEvent, Callable[["Lane"], None]]
"""By the event of a lane that tells of a request: who may answer it there, or help the lane to do so."""

LaneOpener = Callable[[int, int], "Lane"]
"""Opens a lane between the device and the socket whose other end libfuse reads; one that is there gets the socket."""


class Introduction:
    """The socket on which libfuse meets a kernel that is us; without a lane afterwards the device, by the same number.

    Give `path` to pyfuse3.init, let it serve one request, then call `hand_over`, before libfuse reads again.
    """

    # To libfuse we are an older kernel: below 7.14 it believes that there is no splice and reads the device with one
    # plain read(2), not through a pipe; from 7.13 on all other messages are today's. The price: libfuse refuses to send
    # NOTIFY_STORE (7.15) and NOTIFY_DELETE (7.18).
    MAJOR, MINOR = 7, 13
    # All that libfuse has to believe: readdirplus (pyfuse3 insists) and buffers of MAX_PAGES. Its other flags only
    # change what it tells the kernel, and this kernel does not listen.
    FLAGS = wire.Flag.DO_READDIRPLUS | wire.Flag.MAX_PAGES

    def __init__(
        self,
        device: int,
        held: Iterable[bytes] = (),
        open_lane: LaneOpener | None = None,
        tables: "Tables | None" = None,
    ) -> None:
        """Own `device` and the lane of `tables` from now on; `held` are requests that were read and not answered."""
        self._device = device
        self._held = deque(held)
        self._open_lane = open_lane
        self._tables = tables
        self._lane: Lane | None = None
        self._introduced = False
        ours, theirs = _pair()
        self._ours = ours
        self.fd = theirs.detach()  # libfuse's from pyfuse3.init on; pyfuse3.close closes it
        init = wire.INIT_REQUEST.pack(self.MAJOR, self.MINOR, wire.MAX_WRITE, self.FLAGS)
        ours.send(wire.call(wire.Opcode.INIT, 1, init))

    @property
    def path(self) -> str:
        """Return the mountpoint by which libfuse takes a descriptor that is open already."""
        return f"/dev/fd/{self.fd}"

    def hand_over(self, natively: bool = False) -> "bool | Lane":
        """Take libfuse's answer off the socket and put the device in the socket's place; True when that is done.

        Returns a lane instead if there is to be one and `natively` allows it, or it has a ring: then the socket stays.
        False: a request that was held is on the socket, and this is to be called again once libfuse has read it.
        Raises OSError with libfuse's error when it refused, EAGAIN when it has not answered.
        """
        if not self._introduced:
            answer = self._ours.recv(wire.ROOM, socket.MSG_DONTWAIT)
            _, error, _ = wire.REPLY_HEADER.unpack_from(answer)
            if error:
                raise OSError(-error, os.strerror(-error), "libfuse refused FUSE_INIT")
            self._introduced = True
            if self._open_lane is not None and (natively or self._has_ring()):
                return self._start_lane(self._open_lane)
            if self._tables is not None:
                self._tables.recall()
        self._pass_answers()
        if self._held:
            self._ours.send(self._held.popleft())
            return False
        os.set_blocking(self._device, False)  # event_loop.Workers says why
        os.dup2(self._device, self.fd, inheritable=False)
        self.close()
        return True

    @property
    def epoll(self) -> int:
        """The descriptor of the lane's own epoll, or -1."""
        return self._tables.lane.epoll if self._tables is not None else -1

    def _has_ring(self) -> bool:
        """Tell whether requests come to the lane alone."""
        return self._tables is not None and self._tables.lane.has_ring

    def _start_lane(self, open_lane: LaneOpener) -> "Lane":
        """Have a lane read the device from now on; what was held goes first, in order."""
        os.set_blocking(self._device, False)
        self._ours.setblocking(False)
        self._lane = open_lane(self._device, self._ours.fileno())
        self._lane.in_memory(self.fd)  # where that cannot be, the socket stays in use
        self._lane.hold(self._held)
        return self._lane

    def _pass_answers(self) -> None:
        """Give the kernel the answers to what was held; those that are not there yet will go to the device directly."""
        while True:
            try:
                answer = self._ours.recv(wire.ROOM, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            self._pass(answer)

    def _pass(self, answer: bytes) -> None:
        _, _, unique = wire.REPLY_HEADER.unpack_from(answer)
        try:
            os.write(self._device, answer)
        except FileNotFoundError:
            pass  # the client was killed meanwhile, or the mount is gone
        except OSError:  # as libfuse on the device: the request fails, the server goes on
            with suppress(OSError):
                os.write(self._device, wire.failure(unique, errno.EIO))

    def close(self) -> None:
        """Close what is still ours; libfuse's descriptor is not."""
        if self._tables is not None:
            self._tables.lane.close()
        if self._lane is not None:
            self._lane.close()
        self._ours.close()
        if self._device >= 0:
            os.close(self._device)
            self._device = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _pair() -> "tuple[socket.socket, socket.socket]":
    """Return a pair of sockets that take messages as large as they may."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in pair:
        for option in (_SO_SNDBUFFORCE, socket.SO_SNDBUF):  # the former is root's; both are doubled (socket(7))
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, option, wire.ROOM)
                break
    return pair


def message_room() -> int:
    """Return how many bytes a message on a pair may have; net.core.wmem_max decides where we are not root."""
    pair = _pair()
    try:
        return min(end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) for end in pair)
    finally:
        for end in pair:
            end.close()


def passing_pages() -> int:
    """Return how many pages of data may pass through the socket in one message."""
    return max(min((message_room() - _OVERHEAD) // 4096, PASSING_PAGES), 0)
