"""The lane as Python sees it: a loop that is called to wait, and the tables that it answers from.

All calls are for one thread. Numbers are FUSE node ids; 0 is none.
"""

import errno
import os
import select
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from layerfs.lane._lane import ffi, lib
from layerfs.lane.events import Durable, Edited, LaneEdit, LaneEvent, Owned, Way

ASK: Final = int(lib.LANE_ASK)  # a place: others answer
GONE: Final = int(lib.LANE_GONE)  # a place: the name is absent
GONE_UPPER: Final = int(lib.LANE_GONE_UPPER)  # in `Taken.gone`
DIRECTORY: Final = int(lib.LANE_DIRECTORY)  # beside the index of a share: the name is a directory there
_EVENTS: Final = tuple(LaneEvent)  # by their numbers
_EDITS: Final = tuple(LaneEdit)
_OF_DIRECTORIES: Final = int(LaneEdit.MADE_DIRECTORY)  # and those after it


class Taken(NamedTuple):
    """What the kernel was told of a file, and holds: `lookups`, and `opens` of the descriptor `fd` (-1: none yet)."""

    parent: int
    name: bytes
    lookups: int
    device: int
    number: int
    mode: int
    uid: int
    gid: int
    opens: int
    fd: int
    stored: bool  # its data were put into the page cache
    written: bool = False  # `fd` is open for writing, too
    gone: int = 0  # `fd` holds on to a file that has no name any more: 1 a lower's, 2 the upper's


class SourceCalls(NamedTuple):
    """Who answers for an image: the addresses of functions of C (`lane_source` of lane.h), and `of`, which they get.

    `keep` keeps them good.
    """

    of: int
    stat: int
    link: int
    read: int  # 0 where others read
    keep: object


class Lane:
    """Answers between a FUSE device and a socket pair, neither of which it owns; both do not block."""

    def __init__(self, device: int, pair: int, room: int, timeout_ns: int, files: int) -> None:
        """Messages have at most `room` bytes; at most `files` are held open. MemoryError.

        Without a pair (-1), until there is one (`set_pair`), each request for others is `raw`.
        """
        self._met: Any = ffi.new("uint64_t *")  # ours, so that any thread may look at it at any time
        self._lane: Any = lib.lane_open(device, pair, room, *divmod(timeout_ns, 10**9), files, self._met)
        if self._lane == ffi.NULL:
            raise MemoryError
        self._device = device
        self._bell = -1
        self._watched: select.epoll | None = None
        self._taken: Any = ffi.new("lane_taken *")
        self._write: Any = ffi.new("lane_write *")
        self._position: Any = ffi.new("uint32_t *")
        self._edit: Any = ffi.new("lane_edit *")
        self.edited: Callable[[Edited], None] = _nobody  # called for each change of a name, before a wait returns
        self._later: deque[bytes] = deque()  # requests that were read before
        self._sources: list[object] = []  # what they need
        self.closing: Callable[[], None] | None = None  # called before all is given back
        self.files = files  # that may be open
        self._opens = True
        self.relays = True  # libfuse's answers come on the pair, not in memory

    def close(self) -> None:
        """Give everything back; nothing may be called afterwards."""
        closing, self.closing = self.closing, None
        if closing is not None:
            closing()
        if self._watched is not None:
            self._watched.close()
        if self._bell >= 0:
            os.close(self._bell)
            self._bell = -1
        lane, self._lane = self._lane, ffi.NULL
        if lane != ffi.NULL:
            lib.lane_close(lane)
        self._sources.clear()

    @property
    def met(self) -> int:
        """How many requests there were; for any thread, and also when the lane is closed."""
        return int(self._met[0])

    @property
    def last(self) -> float:
        """When the last request was met, on time.monotonic's clock."""
        return int(lib.lane_last(self._lane)) / 1e9

    def set_pair(self, pair: int) -> None:
        """Put what is for others on a pair from now on."""
        lib.lane_set_pair(self._lane, pair)

    @property
    def opens(self) -> bool:
        """Whether files may be opened; else that is for others, and so is all that needs a descriptor."""
        return self._opens

    @opens.setter
    def opens(self, may: bool) -> None:
        self._opens = may
        lib.lane_set_files(self._lane, self.files if may else 0)

    @property
    def outstanding(self) -> int:
        """How many requests were put on the pair and are not answered."""
        return int(lib.lane_outstanding(self._lane))

    def wait(self, other: int, job: int, milliseconds: int, *, spin: bool) -> LaneEvent:
        """Answer requests until there is something to do for others, or the time is over.

        `other` and `job` are descriptors, -1 for none; -1 ms is no end. With `spin` the lane may look for a moment
        before it sleeps, or sleep on its client's processor, while requests follow each other closely. Raises ENODEV
        when the mount is gone.
        """
        if self._later:
            self._hold_next()
        event: int = lib.lane_wait(self._lane, other, job, milliseconds, spin)
        edit = self._edit
        while lib.lane_edited(self._lane, edit):
            name = ffi.buffer(edit.name, edit.size)[:]
            shown = None
            if edit.kind >= _OF_DIRECTORIES:
                shown = Owned(edit.device, edit.inode, edit.mode, edit.uid, edit.gid)
            self.edited(Edited(_EDITS[edit.kind], edit.directory, name, edit.number, edit.fd, shown))
        if event < 0:
            raise _error(event)
        return _EVENTS[event]

    @property
    def way(self) -> Way:
        """How it waits for the next request, where it may choose."""
        return Way(lib.lane_way_now(self._lane))

    def came(self, ns: int, thread: int = 0) -> None:
        """Note how long a request took to come, as if it had been met, and whose LOOKUP it was (0: none): for `way`.

        The next `wait` frees the caller's thread again, if this has bound it to the processor of `thread`.
        """
        lib.lane_came(self._lane, ns, thread)

    def set_raw(self, opcodes: Iterable[int]) -> None:
        """Say which opcodes libfuse does not serve; for every lane of this process."""
        lib.lane_set_raw(sum(1 << opcode for opcode in opcodes))

    def in_memory(self, fd: int) -> bool:
        """Hand requests to libfuse in memory from now on, not through `fd`, its end of the pair; False if it cannot."""
        self.relays = not lib.lane_in_memory(self._lane, fd)
        return not self.relays

    def no_open(self) -> None:
        """Have the kernel open files by itself: OPEN is ENOSYS, and a READ needs no handle. Not where one can write."""
        lib.lane_no_open(self._lane)

    def raw(self) -> bytes:
        """Take the request that `LaneEvent.RAW` told of."""
        message = ffi.new("const char **")
        size = lib.lane_raw(self._lane, message)
        return bytes(ffi.buffer(message[0], size))

    def writing(self) -> tuple[int, int, memoryview]:
        """Return handle, offset and data (good until the next call) of a WRITE; without an answer it is passed on."""
        write = self._write
        if not lib.lane_writing(self._lane, write):
            raise _error(-errno.EINVAL)
        return int(write.fh), int(write.offset), memoryview(ffi.buffer(write.data, write.size))

    def written(self, error: int, size: int) -> None:
        """Answer a WRITE: with an errno, or 0 and how many bytes were written."""
        lib.lane_written(self._lane, error, size)

    def listing(self) -> int:
        """Return the directory that `LaneEvent.LIST` told of. The next wait lists it, or passes the request on."""
        return int(lib.lane_listing(self._lane))

    def relay(self) -> None:
        """Give the kernel the answers that are on the pair."""
        _check(lib.lane_relay(self._lane))

    def reply(self, unique: int, error: int, body: bytes | bytearray | memoryview = b"") -> None:
        """Answer a request that was `raw`, wherever it came from, by an errno or a body. OSError: it is not taken."""
        if self._lane == ffi.NULL:
            raise _error(-errno.ENODEV)
        _check(lib.lane_reply(self._lane, unique, error, ffi.from_buffer(body), len(body)))

    def open_ring(self, payload: int) -> bool:
        """Prepare for FUSE over io_uring, with up to `payload` bytes of data in a message; False where that cannot be.

        Before FUSE_INIT is answered. From then on all is to be called by this thread.
        """
        return bool(lib.lane_ring_open(self._lane, payload))

    def register_ring(self) -> bool:
        """Have requests come over the ring, right after FUSE_INIT was answered so; if False, over the device.

        OSError: over neither.
        """
        taken = lib.lane_ring_register(self._lane)
        _check(taken)
        return bool(taken)

    @property
    def has_ring(self) -> bool:
        """Whether requests come over the ring."""
        return bool(lib.lane_ring_lives(self._lane))

    @property
    def epoll(self) -> int:
        """The descriptor of an epoll of the ring's own, or -1."""
        return int(lib.lane_ring_events(self._lane))

    def watched(self) -> select.epoll:
        """Return what is readable when a wait would have something to do, for who cannot call one that sleeps.

        It is to be polled before each wait. Where the ring may not ring a bell it tells of the device alone.
        """
        if self._watched is None:
            self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            lib.lane_ring_tell(self._lane, self._bell)
            self._watched = select.epoll()
            self._watched.register(self._device, select.EPOLLIN)
            self._watched.register(self._bell, select.EPOLLIN | select.EPOLLET)
        return self._watched

    @property
    def met_on_ring(self) -> int:
        """How many requests came over the ring."""
        return int(lib.lane_ring_met(self._lane))

    def hold(self, messages: Iterable[bytes]) -> None:
        """Take requests that were read before; each of the next waits puts one on the pair."""
        self._later.extend(messages)

    def _hold_next(self) -> None:
        """Have the next wait pass one on, unless it has one already."""
        message = self._later[0]
        if (code := lib.lane_hold(self._lane, message, len(message))) != -errno.EBUSY:
            self._later.popleft()
            _check(code)

    # Tables

    def rank(self, device: int, rank: int) -> bool:
        """Say with what the numbers of a filesystem begin; False where there are too many filesystems."""
        return bool(lib.lane_rank(self._lane, device, rank) == 0)

    def source(self, calls: SourceCalls, rank: int) -> tuple[int, int] | None:
        """Have a source answer, whose numbers begin with `rank`; None where there are too many.

        Returns what stands for it among the shares of a directory, and the device of what it has.
        """
        told, share, device = ffi.new("lane_source *"), ffi.new("int *"), ffi.new("uint64_t *")
        told.of = ffi.cast("void *", calls.of)
        told.stat = ffi.cast(ffi.typeof(told.stat), calls.stat)
        told.link = ffi.cast(ffi.typeof(told.link), calls.link)
        told.read = ffi.cast(ffi.typeof(told.read), calls.read)
        if lib.lane_source_add(self._lane, told, rank, share, device) < 0:
            return None
        self._sources.append(calls.keep)
        return int(share[0]), int(device[0])

    def directory(
        self, number: int, parent: int, names: Sequence[bytes], places: Sequence[int], shares: Sequence[int],
        references: Sequence[int] = (),
    ) -> bool:  # fmt: skip
        """Hand over a whole directory: its names in order, and the place of each; False if there is no room for it.

        `shares` are descriptors, -1 for those that are closed, or sources. A place is the index of a share, `DIRECTORY`
        and that index, or `ASK`. `references` are those of all names, by which sources know them.
        """
        text = b"\0".join(names) + b"\0" if names else b""
        return bool(
            lib.lane_directory(
                self._lane, number, parent, text, len(text), ffi.from_buffer("uint32_t[]", array("I", places)),
                len(places), ffi.new("int[]", shares), len(shares),
                ffi.from_buffer("uint64_t[]", array("Q", references)) if references else ffi.NULL,
            )
            == 0
        )  # fmt: skip

    def top(
        self, number: int, index: int, *, single: bool, mode: int, uid: int, gid: int, makes: bool = False,
        reference: int = 0,
    ) -> None:  # fmt: skip
        """Say that a directory shows the attributes of a share, while its mode and owner are these.

        It shows one link unless the share is `single`. With `makes` the share is the upper's and takes new files: a
        name that is absent is free there, or has a whiteout. A source knows the directory by `reference`.
        """
        lib.lane_top(self._lane, number, index, single, makes, mode, uid, gid, reference)

    def change_files(
        self, scratch: int, durable: Durable, number_xattr: str, *, writeback: bool, static_links: bool = False
    ) -> None:
        """Change files from now on, and tell `edited`; with `writeback` the kernel keeps times by itself.

        Copies are made in the directory `scratch`, and keep their numbers in an xattr; nothing is copied without one.
        With `static_links` a directory shows one link.
        """
        lib.lane_change_files(self._lane, writeback, scratch, durable, number_xattr.encode(), static_links)

    def drop(self, number: int) -> None:
        """Forget the names of a directory."""
        lib.lane_drop(self._lane, number)

    def share(self, number: int, index: int, fd: int) -> None:
        """Say what descriptor a directory's share has from now on; -1 for none, before that is closed."""
        lib.lane_share(self._lane, number, index, fd)

    def change(self, number: int, name: bytes, place: int) -> bool:
        """Say that a name is at `ASK` or `GONE`. False: too many changes, and the directory must be dropped."""
        return bool(lib.lane_change(self._lane, number, name, len(name), place) == 0)

    def relist(self, number: int) -> None:
        """Say that a directory has other names than were handed over; lists of it are for others."""
        lib.lane_relist(self._lane, number)

    def claim(self, number: int) -> None:
        """Answer for a number no more, until each claim is taken back. `take` comes first, else EEXIST is raised."""
        _check(lib.lane_claim(self._lane, number))

    def disclaim(self, number: int) -> None:
        """Take one claim back."""
        lib.lane_disclaim(self._lane, number)

    def take(self, number: int) -> Taken | None:
        """Take over what the lane answers for, with what the kernel holds of it."""
        taken = self._taken
        if not lib.lane_take(self._lane, number, taken):
            return None
        name = ffi.buffer(taken.name)[0 : taken.size]
        return Taken(
            taken.parent, name, taken.lookups, taken.device, taken.number, taken.mode, taken.uid, taken.gid,
            taken.opens, taken.fd, bool(taken.stored), bool(taken.written), taken.gone,
        )  # fmt: skip

    def give(self, given: Taken) -> bool:
        """Hand back a file that was taken, and is neither claimed nor open now; False if the lane does not take it."""
        told = ffi.new("lane_taken *")
        told.parent, told.lookups, told.device, told.number = given.parent, given.lookups, given.device, given.number
        told.mode, told.uid, told.gid, told.stored = given.mode, given.uid, given.gid, given.stored
        told.size = len(given.name)
        ffi.memmove(told.name, given.name, told.size)
        return bool(lib.lane_give(self._lane, told))

    def any(self) -> int:
        """Return a number that the lane answers for, or 0."""
        return int(lib.lane_any(self._lane))

    def children(self, number: int) -> int:
        """Return how many numbers of a directory the lane answers for; `emptied` tells when they are gone."""
        return int(lib.lane_children(self._lane, number))

    def slow(self) -> tuple[int, int]:
        """Return a directory with files that wait for a disk (0: none), and the position of the next name to fetch."""
        directory = int(lib.lane_slow(self._lane, self._position))
        return directory, int(self._position[0])

    def ahead(self, directory: int, position: int, *, waited: bool) -> int:
        """Note that a small file was opened. Returns how many of the files after it the disk was asked for."""
        return int(lib.lane_ahead(self._lane, directory, position, waited))

    def emptied(self) -> int:
        """Return a directory that has lost its last number, or 0."""
        return int(lib.lane_emptied(self._lane))


def _nobody(_edit: Edited) -> None:
    """Take in what nobody looks at."""


def _error(code: int) -> OSError:
    return OSError(-code, os.strerror(-code))


def _check(code: int) -> None:
    if code < 0:
        if code == -errno.ENOMEM:
            raise MemoryError
        raise _error(code)
