"""FUSE_INIT, answered twice: by us to the kernel, and by libfuse to a kernel that we play.

Why: libfuse 3.14 and pyfuse3 settle a dozen flags on their own and cannot set several that we need
(HANDLE_KILLPRIV_V2, PARALLEL_DIROPS without AUTO_INVAL_DATA, CACHE_SYMLINKS, no READDIRPLUS_AUTO, no splice).
The kernel believes what it reads on the device, whoever wrote it. So `negotiate` answers on the device before
pyfuse3 is imported, and `Introduction` gives libfuse a socket on which exactly one FUSE_INIT waits; when libfuse
has answered it, the device takes the socket's descriptor number (dup2), and libfuse goes on, now with the kernel.

Layouts and numbers: include/uapi/linux/fuse.h, protocol 7.38.
"""

import os
import socket
import struct
from enum import IntFlag
from typing import TYPE_CHECKING, Self

from layerfs.errors import Unsupported
from layerfs.value import value

if TYPE_CHECKING:
    from layerfs.union.options import UnionOptions

MAJOR = 7
# The highest minor whose messages libfuse 3.14 knows (its own fuse_kernel.h). Later kernels change nothing below
# it: what they added since comes with a flag that we do not set.
MINOR = 38
OLDEST_MINOR = 28  # FUSE_MAX_PAGES and FUSE_CACHE_SYMLINKS, Linux 4.20
MAX_PAGES = 256  # FUSE_MAX_MAX_PAGES of Linux < 6.13, fs.fuse.max_pages_limit's default since, libfuse's own buffer
MAX_WRITE = MAX_PAGES * 4096
MAX_BACKGROUND = 64  # readahead and writeback requests at once; the kernel's default is 12
CONGESTION_THRESHOLD = 48
ROOM_FOR_INIT = 65536  # bytes; the kernel asks for 8192 (FUSE_MIN_READ_BUFFER) at least

# To libfuse we are an older kernel: below 7.14 it believes that there is no splice and reads the device with one
# plain read(2), not through a pipe; from 7.13 on all other messages are today's. The price: libfuse refuses to send
# NOTIFY_STORE (7.15) and NOTIFY_DELETE (7.18).
INTRODUCED_MINOR = 13

FUSE_INIT = 26
REQUEST_HEADER = struct.Struct("=IIQQIIIHH")  # fuse_in_header: len opcode unique nodeid uid gid pid extlen padding
REPLY_HEADER = struct.Struct("=IiQ")  # fuse_out_header: len error unique
INIT_REQUEST = struct.Struct("=IIII")  # fuse_init_in: major minor max_readahead flags (then flags2, unused[11])
# fuse_init_out: major minor max_readahead flags max_background congestion_threshold max_write time_gran max_pages
# map_alignment flags2 unused[7]
INIT_REPLY = struct.Struct("=IIIIHHIIHHI28x")


class Flag(IntFlag):
    """FUSE_INIT flags, fuse.h, the lower 32 bits."""

    ASYNC_READ = 1 << 0
    ATOMIC_O_TRUNC = 1 << 3
    BIG_WRITES = 1 << 5
    DONT_MASK = 1 << 6
    DO_READDIRPLUS = 1 << 13
    ASYNC_DIO = 1 << 15
    WRITEBACK_CACHE = 1 << 16
    PARALLEL_DIROPS = 1 << 18
    POSIX_ACL = 1 << 20
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    EXPLICIT_INVAL_DATA = 1 << 25
    HANDLE_KILLPRIV_V2 = 1 << 28


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
# All that libfuse has to believe: readdirplus (pyfuse3 insists) and buffers of MAX_PAGES. Its other flags only change
# what it tells the kernel, and this kernel does not listen.
INTRODUCED = Flag.DO_READDIRPLUS | Flag.MAX_PAGES


@value
class Wanted:
    """What a mount may choose; the kernel's offer limits it."""

    writeback: bool = False
    posix_acl: bool = False

    @classmethod
    def of(cls, options: "UnionOptions", *, read_only: bool) -> Self:
        """Return what the options of a union choose."""
        return cls(options.writeback and not read_only, options.acl)

    @property
    def flags(self) -> Flag:
        """Return every flag to ask for."""
        chosen = ALWAYS
        if self.writeback:
            chosen |= Flag.WRITEBACK_CACHE
        if self.posix_acl:
            chosen |= Flag.POSIX_ACL
        return chosen


@value
class Negotiated:
    """What the kernel and we agreed on; sizes in bytes."""

    minor: int
    flags: Flag
    max_readahead: int
    max_write: int


@value
class _Offer:
    """The kernel's FUSE_INIT."""

    unique: int
    major: int
    minor: int
    max_readahead: int
    flags: int


def negotiate(device: int, wanted: Wanted) -> Negotiated:
    """Answer the kernel's FUSE_INIT on a mounted /dev/fuse descriptor; from then on requests queue there.

    Blocks until the kernel has sent it, which it does when mounting. Raises OSError (ENODEV: unmounted already),
    Unsupported when the kernel is older than Linux 4.20 or the first message is no FUSE_INIT.
    """
    offer = _read_offer(device)
    while offer.major > MAJOR:  # fuse.h, "Version negotiation": answer ours, and be asked again
        os.write(device, _reply(offer.unique, Negotiated(MINOR, Flag(0), 0, 0)))
        offer = _read_offer(device)
    if offer.major < MAJOR or offer.minor < OLDEST_MINOR:
        raise Unsupported(f"the kernel speaks FUSE {offer.major}.{offer.minor}", "layerfs needs Linux 4.20 or later")
    agreed = Negotiated(min(MINOR, offer.minor), wanted.flags & Flag(offer.flags), offer.max_readahead, MAX_WRITE)
    os.write(device, _reply(offer.unique, agreed))
    return agreed


def _read_offer(device: int) -> _Offer:
    """Read one message and take it for a FUSE_INIT."""
    message = os.read(device, ROOM_FOR_INIT)
    _, opcode, unique, *_ = REQUEST_HEADER.unpack_from(message)
    if opcode != FUSE_INIT:
        raise Unsupported(f"the first FUSE message is {opcode}, not FUSE_INIT", "is the device served already?")
    return _Offer(unique, *INIT_REQUEST.unpack_from(message, REQUEST_HEADER.size))


def _reply(unique: int, agreed: Negotiated) -> bytes:
    """Return the message that answers FUSE_INIT."""
    body = INIT_REPLY.pack(
        MAJOR, agreed.minor, agreed.max_readahead, agreed.flags, MAX_BACKGROUND, CONGESTION_THRESHOLD,
        agreed.max_write, 1, MAX_PAGES, 0, 0,
    )  # fmt: skip
    return REPLY_HEADER.pack(REPLY_HEADER.size + len(body), 0, unique) + body


class Introduction:
    """The socket on which libfuse meets a kernel that is us; afterwards the device, under the same number.

    Give `path` to pyfuse3.init, let it serve one request, then call `hand_over`, before libfuse reads again.
    """

    def __init__(self, device: int, held: bytes | None = None) -> None:
        """Own `device` from now on; `held` is a request that was read from it and not answered."""
        self._device = device
        self._held = held
        self._introduced = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours = ours
        self.fd = theirs.detach()  # libfuse's from pyfuse3.init on; pyfuse3.close closes it
        ours.send(_init_request())

    @property
    def path(self) -> str:
        """Return the mountpoint by which libfuse takes a descriptor that is open already."""
        return f"/dev/fd/{self.fd}"

    def hand_over(self) -> bool:
        """Take libfuse's answer off the socket and put the device in the socket's place; True when that is done.

        False: the request that was held is on the socket, and this is to be called again once libfuse has read it.
        Raises OSError with libfuse's error when it refused, EAGAIN when it has not answered.
        """
        if not self._introduced:
            answer = self._ours.recv(ROOM_FOR_INIT, socket.MSG_DONTWAIT)
            _, error, _ = REPLY_HEADER.unpack_from(answer)
            if error:
                raise OSError(-error, os.strerror(-error), "libfuse refused FUSE_INIT")
            self._introduced = True
            if self._held is not None:
                self._ours.send(self._held)
                return False
        elif self._held is not None:
            self._pass_answer()
        os.set_blocking(self._device, False)  # gate.Workers says why
        os.dup2(self._device, self.fd, inheritable=False)
        self.close()
        return True

    def _pass_answer(self) -> None:
        """Give the kernel the answer to what was held; one that is not there yet will go to the device by itself."""
        try:
            os.write(self._device, self._ours.recv(ROOM_FOR_INIT, socket.MSG_DONTWAIT))
        except (BlockingIOError, FileNotFoundError):  # not yet; whoever asked was killed
            pass

    def close(self) -> None:
        """Close what is still ours; libfuse's descriptor is not."""
        self._ours.close()
        if self._device >= 0:
            os.close(self._device)
            self._device = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _init_request() -> bytes:
    """Return the FUSE_INIT of the kernel that we play."""
    body = INIT_REQUEST.pack(MAJOR, INTRODUCED_MINOR, MAX_WRITE, INTRODUCED)
    length = REQUEST_HEADER.size + len(body)
    return REQUEST_HEADER.pack(length, FUSE_INIT, 1, 0, 0, 0, 0, 0, 0) + body
