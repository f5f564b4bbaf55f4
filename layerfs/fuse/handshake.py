"""FUSE_INIT, answered by us instead of by libfuse.

Why: libfuse 3.14 and pyfuse3 settle a dozen flags on their own and cannot set several that we need
(HANDLE_KILLPRIV_V2, PARALLEL_DIROPS without AUTO_INVAL_DATA, CACHE_SYMLINKS, no READDIRPLUS_AUTO, no splice).
The kernel believes what it reads on the device, whoever wrote it. So `negotiate` answers on the device before
pyfuse3 is imported, and libfuse is shown a FUSE_INIT of ours afterwards (device.Introduction).
"""

import errno
import os
from typing import TYPE_CHECKING, Final, Self

from layerfs.errors import Unsupported
from layerfs.fuse import wire
from layerfs.fuse.wire import Flag, Flag2, Opcode
from layerfs.value import value

if TYPE_CHECKING:
    from layerfs.union.options import UnionOptions

MAJOR: Final = 7
# The highest minor whose messages libfuse 3.14 knows (its own fuse_kernel.h). Later kernels change nothing below
# it: what they added since comes with a flag that we do not set.
MINOR: Final = 38
OLDEST_MINOR: Final = 28  # FUSE_MAX_PAGES and FUSE_CACHE_SYMLINKS, Linux 4.20
MAX_BACKGROUND: Final = 64  # readahead and writeback requests at once; the kernel's default is 12
CONGESTION_THRESHOLD: Final = 48
ROOM_FOR_INIT: Final = 65536  # bytes; the kernel asks for 8192 (FUSE_MIN_READ_BUFFER) at least

# Nothing below us changes behind our back, hence EXPLICIT_INVAL_DATA and neither AUTO_INVAL_DATA nor READDIRPLUS_AUTO.
# No POSIX_LOCKS and FLOCK_LOCKS: the kernel keeps the locks of one mount by itself.
ALWAYS = (
    Flag.ASYNC_READ
    | Flag.ATOMIC_O_TRUNC
    | Flag.BIG_WRITES
    | Flag.DONT_MASK
    | Flag.DO_READDIRPLUS
    | Flag.ASYNC_DIO
    | Flag.PARALLEL_DIROPS
    | Flag.MAX_PAGES
    | Flag.CACHE_SYMLINKS
    | Flag.EXPLICIT_INVAL_DATA
    | Flag.HANDLE_KILLPRIV_V2
)


@value
class Wanted:
    """What a mount may choose; the kernel's offer limits it."""

    writeback: bool = False
    posix_acl: bool = False
    pages: int = wire.MAX_PAGES  # of data in a message
    no_open: bool = False  # the kernel is to open files by itself; O_TRUNC then comes as a request of its own
    no_opendir: bool = False  # and directories
    uring: bool = False  # requests are to come over io_uring; the caller is ready to register a ring

    @classmethod
    def of(
        cls,
        options: "UnionOptions",
        *,
        read_only: bool,
        nearly_full: bool = False,
        pages: int = wire.MAX_PAGES,
        no_open: bool = False,
        no_opendir: bool = False,
        uring: bool = False,
    ) -> Self:
        """Return what the options of a union choose.

        Nothing is written behind the writer's back where the upper is nearly full: write(2) is to say ENOSPC.
        """
        writeback = options.writeback and not read_only and not nearly_full
        return cls(writeback, options.acl, pages, no_open, no_opendir, uring)

    @property
    def flags(self) -> Flag:
        """Return every flag to ask for."""
        chosen = ALWAYS
        if self.writeback:
            chosen |= Flag.WRITEBACK_CACHE
        if self.posix_acl:
            chosen |= Flag.POSIX_ACL
        if self.no_open:
            chosen = chosen & ~Flag.ATOMIC_O_TRUNC | Flag.NO_OPEN_SUPPORT
        if self.no_opendir:
            chosen |= Flag.NO_OPENDIR_SUPPORT
        return chosen

    @property
    def flags2(self) -> Flag2:
        """Return the same of the upper 32 bits."""
        return Flag2.DIRECT_IO_ALLOW_MMAP | (Flag2.OVER_IO_URING if self.uring else Flag2(0))


@value
class Negotiated:
    """What the kernel and we agreed on; sizes in bytes."""

    minor: int
    flags: Flag
    max_readahead: int
    max_write: int
    flags2: Flag2 = Flag2(0)  # a number

    @property
    def no_open(self) -> bool:
        """Whether an OPEN may be answered with ENOSYS: the kernel opens files by itself from then on."""
        return Flag.NO_OPEN_SUPPORT in self.flags

    @property
    def no_opendir(self) -> bool:
        """Whether an OPENDIR may be answered with ENOSYS: the kernel opens directories by itself from then on."""
        return Flag.NO_OPENDIR_SUPPORT in self.flags

    @property
    def uring(self) -> bool:
        """Whether the kernel now holds all requests until a ring is registered."""
        return Flag2.OVER_IO_URING in self.flags2

    @property
    def may_write_through(self) -> bool:
        """Whether single files can do without the writeback cache, and still be mapped."""
        return Flag.WRITEBACK_CACHE in self.flags and Flag2.DIRECT_IO_ALLOW_MMAP in self.flags2


@value
class _Offer:
    """The kernel's FUSE_INIT."""

    unique: int
    major: int
    minor: int
    max_readahead: int
    flags: int
    flags2: int


def negotiate(device: int, wanted: Wanted) -> Negotiated:
    """Answer the kernel's FUSE_INIT on a mounted /dev/fuse descriptor; from then on requests queue there.

    Blocks until the kernel has sent it, which it does when mounting. Raises OSError (ENODEV: unmounted already),
    Unsupported when the kernel is older than Linux 4.20 or the first message is no FUSE_INIT.
    """
    offer = _read_offer(device)
    while offer.major > MAJOR:  # fuse.h, "Version negotiation": answer ours, and be asked again
        _answer(device, offer, Negotiated(MINOR, Flag(0), 0, 0))
        offer = _read_offer(device)
    if offer.major < MAJOR or offer.minor < OLDEST_MINOR:
        raise Unsupported(f"the kernel speaks FUSE {offer.major}.{offer.minor}", "layerfs needs Linux 4.20 or later")
    flags, flags2 = wanted.flags & Flag(offer.flags), wanted.flags2 & Flag2(offer.flags2)
    if flags2:
        flags |= Flag.INIT_EXT
    agreed = Negotiated(min(MINOR, offer.minor), flags, offer.max_readahead, wanted.pages * wire.PAGE, flags2)
    _answer(device, offer, agreed)
    return agreed


def _read_offer(device: int) -> _Offer:
    """Read one message and take it for a FUSE_INIT."""
    try:
        message = os.read(device, ROOM_FOR_INIT)
    except ConnectionAbortedError:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from None
    opcode, unique, _, body, *_ = wire.request(message)
    if opcode != Opcode.INIT:
        raise Unsupported(f"the first FUSE message is {opcode}, not FUSE_INIT", "is the device served already?")
    major, minor, max_readahead, flags = wire.INIT_REQUEST.unpack_from(body)
    extended = flags & Flag.INIT_EXT and len(body) >= wire.INIT_REQUEST.size + wire.FLAGS2.size
    flags2 = wire.FLAGS2.unpack_from(body, wire.INIT_REQUEST.size)[0] if extended else 0
    return _Offer(unique, major, minor, max_readahead, flags, flags2)


def _answer(device: int, offer: _Offer, agreed: Negotiated) -> None:
    """Answer FUSE_INIT. Raises ENODEV where the mount has gone meanwhile: the kernel says ENOENT to an answer then."""
    body = wire.INIT_REPLY.pack(
        MAJOR, agreed.minor, agreed.max_readahead, agreed.flags, MAX_BACKGROUND, CONGESTION_THRESHOLD,
        agreed.max_write, 1, agreed.max_write // wire.PAGE, 0, agreed.flags2,
    )  # fmt: skip
    try:
        os.write(device, wire.reply(offer.unique, body))
    except FileNotFoundError:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from None
