"""The FUSE protocol as bytes: numbers of requests and notifications, and every structure that we read or write by hand.

Source: include/uapi/linux/fuse.h, protocol 7.38. Each structure bears its name there in a comment. libfuse reads and
writes the rest; what it and we agree on with the kernel is in handshake.py.
"""

import errno
import os
import struct
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from layerfs.union.state import Attributes

MAX_PAGES: Final = 256  # FUSE_MAX_MAX_PAGES of Linux < 6.13, fs.fuse.max_pages_limit's default since; libfuse's buffer
PAGE: Final = 4096  # bytes
MAX_WRITE: Final = MAX_PAGES * PAGE
ROOM: Final = MAX_WRITE + 8192  # bytes; the kernel hands out no request to a reader without room for the largest
ROOT: Final = 1  # FUSE_ROOT_ID
NAME_MAX: Final = 255
BLOCK_SIZE: Final = 4096
UNKNOWN_INO: Final = 0xFFFFFFFF  # a number in a listing, as libfuse has it (FUSE_UNKNOWN_INO); glibc drops names with 0
TARGET_MAX: Final = 4095  # bytes; the kernel reads a symlink's target into one page and ends it with a NUL
ERRNO_END: Final = 512  # ERESTARTSYS, linux/errno.h
_NS: Final = 1_000_000_000


class Opcode(IntEnum):
    """fuse_opcode: the requests that are met by hand. libfuse knows the others."""

    LOOKUP = 1
    FORGET = 2  # has no answer
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36  # has no answer
    DESTROY = 38
    POLL = 40
    BATCH_FORGET = 42  # has no answer
    IOCTL = 39
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    TMPFILE = 51  # Linux 6.2
    STATX = 52  # Linux 6.6
    COPY_FILE_RANGE_64 = 53  # Linux 6.18


RAW: Final = (
    Opcode.IOCTL,
    Opcode.FALLOCATE,
    Opcode.LSEEK,
    Opcode.COPY_FILE_RANGE,
    Opcode.TMPFILE,
    Opcode.STATX,
    Opcode.COPY_FILE_RANGE_64,
)
"""What pyfuse3 has no handlers for, and raw_requests.py has."""

UNANSWERED: Final = frozenset({Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT})


class Notification(IntEnum):
    """fuse_notify_code: what a server tells the kernel unasked."""

    INVAL_INODE = 2
    STORE = 4


class Flag(IntFlag):
    """The flags of FUSE_INIT, the lower 32 bits."""

    ASYNC_READ = 1 << 0
    ATOMIC_O_TRUNC = 1 << 3
    BIG_WRITES = 1 << 5
    DONT_MASK = 1 << 6
    DO_READDIRPLUS = 1 << 13
    ASYNC_DIO = 1 << 15
    WRITEBACK_CACHE = 1 << 16
    NO_OPEN_SUPPORT = 1 << 17  # an OPEN may be ENOSYS
    PARALLEL_DIROPS = 1 << 18
    POSIX_ACL = 1 << 20
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24  # an OPENDIR may be ENOSYS; Linux 5.1
    EXPLICIT_INVAL_DATA = 1 << 25
    HANDLE_KILLPRIV_V2 = 1 << 28
    INIT_EXT = 1 << 30  # there is a second word of flags


class Flag2(IntFlag):
    """The flags of FUSE_INIT, the upper 32 bits."""

    DIRECT_IO_ALLOW_MMAP = 1 << 4
    OVER_IO_URING = 1 << 9


REQUEST_HEADER: Final = struct.Struct("=IIQQIIIHH")  # fuse_in_header: len opcode unique nodeid uid gid pid extlen pad
REPLY_HEADER: Final = struct.Struct("=IiQ")  # fuse_out_header: len error unique
INIT_REQUEST: Final = struct.Struct("=IIII")  # fuse_init_in: major minor max_readahead flags (then FLAGS2, unused[11])
FLAGS2: Final = struct.Struct("=I")
# fuse_init_out: major minor max_readahead flags max_background congestion_threshold max_write time_gran max_pages
# map_alignment flags2 unused[7]
INIT_REPLY: Final = struct.Struct("=IIIIHHIIHHI28x")
ATTRIBUTES: Final = struct.Struct("=QQQqqqIIIIIIIIII")  # fuse_attr
ENTRY: Final = struct.Struct("=QQQQII")  # fuse_entry_out without its fuse_attr
ATTRIBUTES_REPLY: Final = struct.Struct("=QII")  # fuse_attr_out without its fuse_attr
OPEN_REPLY: Final = struct.Struct("=QIi")  # fuse_open_out
READ_REQUEST: Final = struct.Struct("=QQII")  # fuse_read_in: fh offset size read_flags (then lock_owner, flags)
DIRENT: Final = struct.Struct("=QQII")  # fuse_dirent: ino off namelen type
FORGET_ONE: Final = struct.Struct("=QQ")  # fuse_forget_one
BATCH_SIZE: Final = 8  # bytes of fuse_batch_forget_in: how many follow, and padding
STATFS_REPLY: Final = struct.Struct("=QQQQQIIII24x")  # fuse_kstatfs
XATTR_REQUEST: Final = struct.Struct("=II")  # fuse_getxattr_in, and fuse_getxattr_out: size padding
NUMBER: Final = struct.Struct("=Q")  # fuse_forget_in, and the fh that fuse_release_in begins with
STORE: Final = struct.Struct("=QQII")  # fuse_notify_store_out: nodeid offset size padding
INVAL_INODE: Final = struct.Struct("=Qqq")  # fuse_notify_inval_inode_out: ino off len
FALLOCATE_REQUEST: Final = struct.Struct("=QqqI4x")  # fuse_fallocate_in: fh offset length mode padding
LSEEK_REQUEST: Final = struct.Struct("=QqI4x")  # fuse_lseek_in: fh offset whence padding; fuse_lseek_out is a NUMBER
# fuse_copy_file_range_in: fh_in off_in nodeid_out fh_out off_out len flags
COPY_REQUEST: Final = struct.Struct("=QQQQQQQ")
CREATE_REQUEST: Final = struct.Struct("=IIII")  # fuse_create_in: flags mode umask open_flags
# fuse_ioctl_in: fh flags cmd arg in_size out_size; fuse_ioctl_out: result flags in_iovs out_iovs
IOCTL_REQUEST: Final = struct.Struct("=QIIQII")
IOCTL_REPLY: Final = struct.Struct("=iIII")
STATX_REPLY: Final = struct.Struct("=QII16x")  # fuse_statx_out without its fuse_statx: attr_valid and its ns, flags
# fuse_statx: mask blksize attributes nlink uid gid mode ino size blocks attributes_mask; 4 times, a, b, c, m; devices
STATX: Final = struct.Struct("=IIQIIIH2xQQQQqI4xqI4xqI4xqI4xIIII112x")
BASIC_STATS: Final = 0x7FF  # STATX_BASIC_STATS
BTIME: Final = 0x800  # STATX_BTIME
WRITE_REPLY: Final = struct.Struct("=I4x")  # fuse_write_out: size padding


class Request(NamedTuple):
    """One request as it came from the device, and who makes it."""

    opcode: int
    unique: int
    node: int
    body: bytes
    uid: int = 0
    gid: int = 0
    pid: int = 0
    umask: int = 0


class ClientIds(NamedTuple):
    """Who has made a request; `pid` is a thread of the host, 0 if that is unknown."""

    uid: int
    gid: int
    pid: int
    umask: int = 0


def request(message: bytes) -> Request:
    """Take a message apart."""
    _, opcode, unique, node, uid, gid, pid, _, _ = REQUEST_HEADER.unpack_from(message)
    return Request(opcode, unique, node, message[REQUEST_HEADER.size :], uid, gid, pid)


def client(message: bytes) -> ClientIds:
    """Return who has made a request."""
    return ClientIds(*REQUEST_HEADER.unpack_from(message)[4:7])


def call(opcode: Opcode, unique: int, body: bytes) -> bytes:
    """Return a request as the kernel would send it, from nobody and about no node."""
    return REQUEST_HEADER.pack(REQUEST_HEADER.size + len(body), opcode, unique, 0, 0, 0, 0, 0, 0) + body


def reply_header(unique: int, size: int) -> bytes:
    """Return what stands before an answer of `size` bytes."""
    return REPLY_HEADER.pack(REPLY_HEADER.size + size, 0, unique)


def reply(unique: int, body: bytes) -> bytes:
    """Return the message that answers a request."""
    return REPLY_HEADER.pack(REPLY_HEADER.size + len(body), 0, unique) + body


def errno_of(code: int | None) -> int:
    """Return an errno that the kernel takes; those from 512 on are its own, though NFS and others let them out."""
    return code if code is not None and 0 < code < ERRNO_END else errno.EIO


def failure(unique: int, code: int) -> bytes:
    """Return the message that answers a request with an errno."""
    return REPLY_HEADER.pack(REPLY_HEADER.size, -errno_of(code), unique)


def notification_header(code: Notification, size: int) -> bytes:
    """Return what stands before a notification of `size` bytes."""
    return REPLY_HEADER.pack(REPLY_HEADER.size + size, code, 0)


def attributes(ino: int, st: "Attributes | None") -> bytes:
    """Return fuse_attr; zeros for no attributes."""
    if st is None:
        return bytes(ATTRIBUTES.size)
    (atime, atime_ns), (mtime, mtime_ns), (ctime, ctime_ns) = (
        divmod(stamp, _NS) for stamp in (st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns)
    )
    times = atime, mtime, ctime, atime_ns, mtime_ns, ctime_ns
    ids = st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_rdev, BLOCK_SIZE, 0
    return ATTRIBUTES.pack(ino, st.st_size, st.st_blocks, *times, *ids)


class Replies:
    """Builds the bodies of answers that carry a timeout."""

    def __init__(self, timeout: float) -> None:
        """Let the kernel keep what it is told for `timeout` seconds."""
        self._seconds, self._ns = divmod(round(timeout * _NS), _NS)

    def entry(self, ino: int, st: "Attributes | None") -> bytes:
        """Return fuse_entry_out. Number 0 without attributes: the kernel remembers that the name is absent."""
        times = self._seconds, self._seconds, self._ns, self._ns
        return ENTRY.pack(ino, 0, *times) + attributes(ino, st)

    def statx(self, ino: int, st: "Attributes", born: int | None) -> bytes:
        """Return fuse_statx_out; `born` [ns since 1970] is None where nobody knows it."""
        mask = BASIC_STATS | (0 if born is None else BTIME)
        stamps = st.st_atime_ns, born or 0, st.st_ctime_ns, st.st_mtime_ns
        times = (word for stamp in stamps for word in divmod(stamp, _NS))
        device = os.major(st.st_rdev), os.minor(st.st_rdev)
        return STATX_REPLY.pack(self._seconds, self._ns, 0) + STATX.pack(
            mask, BLOCK_SIZE, 0, st.st_nlink, st.st_uid, st.st_gid, st.st_mode, ino, st.st_size, st.st_blocks, 0,
            *times, *device, 0, 0,
        )  # fmt: skip

    def attributes(self, ino: int, st: "Attributes") -> bytes:
        """Return fuse_attr_out."""
        return ATTRIBUTES_REPLY.pack(self._seconds, self._ns, 0) + attributes(ino, st)


def statfs(vfs: os.statvfs_result) -> bytes:
    """Return fuse_statfs_out."""
    sizes = vfs.f_blocks, vfs.f_bfree, vfs.f_bavail, vfs.f_files, vfs.f_ffree
    return STATFS_REPLY.pack(*sizes, vfs.f_bsize, NAME_MAX, vfs.f_frsize, 0)


def xattr(wanted: int, value: bytes) -> bytes:
    """Return an xattr's value, or its length where `wanted` [bytes] is 0. Raises ERANGE."""
    if not wanted:
        return XATTR_REQUEST.pack(len(value), 0)
    if len(value) > wanted:
        raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
    return value


def dirent(ino: int, cookie: int, name: bytes, mode: int) -> bytes:
    """Return fuse_dirent, padded as the next one wants it."""
    return DIRENT.pack(ino, cookie, len(name), mode >> 12) + name + bytes(-len(name) % 8)


def dirent_size(name: bytes, *, plus: bool) -> int:
    """Return the length of a name in a listing; `plus` with its attributes."""
    return (ENTRY.size + ATTRIBUTES.size) * plus + (DIRENT.size + len(name) + 7) // 8 * 8


def bare_dirent(cookie: int, name: bytes, *, plus: bool) -> bytes:
    """Return an entry for a name that cannot be looked at now: node 0 means "ask me later" in READDIRPLUS."""
    entry = dirent(UNKNOWN_INO, cookie, name, 0)
    return bytes(ENTRY.size + ATTRIBUTES.size) + entry if plus else entry


def target(path: bytes) -> bytes:
    """Return a symlink's target as the kernel takes it. Raises ENAMETOOLONG: a layer's may be longer than a page."""
    if len(path) > TARGET_MAX:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    return path


def forgotten(body: bytes) -> Iterator[tuple[int, int]]:
    """Return the (node, lookups) of BATCH_FORGET."""
    return FORGET_ONE.iter_unpack(body[BATCH_SIZE:])
