"""The bodies of requests, taken apart: what the prelude reads of fuse.h, and what libfuse and pyfuse3 make of it.

What the kernel sends is trusted to be whole; a body that is too short is a struct.error, and EIO for its client.
"""

import errno
import os
import struct
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from layerfs.fuse import wire
from layerfs.fuse.wire import Request

SETATTR: Final = struct.Struct("=IIQQQQQQIIIIIIII")  # fuse_setattr_in
MKNOD: Final = struct.Struct("=IIII")  # fuse_mknod_in: mode rdev umask padding
MKDIR: Final = struct.Struct("=II")  # fuse_mkdir_in: mode umask
CREATE: Final = struct.Struct("=IIII")  # fuse_create_in: flags mode umask open_flags
RENAME2: Final = struct.Struct("=QII")  # fuse_rename2_in: newdir flags padding
OPEN: Final = struct.Struct("=II")  # fuse_open_in: flags open_flags
WRITE: Final = struct.Struct("=QQIIQII")  # fuse_write_in: fh offset size write_flags lock_owner flags padding
WRITTEN: Final = struct.Struct("=II")  # fuse_write_out: size padding
FSYNC: Final = struct.Struct("=QII")  # fuse_fsync_in: fh fsync_flags padding
IOCTL: Final = struct.Struct("=QIIQII")  # fuse_ioctl_in: fh flags cmd arg in_size out_size
SETXATTR: Final = struct.Struct("=II")  # fuse_setxattr_in without FUSE_SETXATTR_EXT: size flags
DATA_ONLY: Final = 1  # FUSE_FSYNC_FDATASYNC
_MODE, _UID, _GID, _SIZE, _ATIME, _MTIME = (1 << bit for bit in range(6))  # FATTR_*
_ATIME_NOW, _MTIME_NOW, _CTIME = 1 << 7, 1 << 8, 1 << 10
_NS: Final = 1_000_000_000


class Setattr(NamedTuple):
    """The attributes that a client sets, and which they are."""

    st_mode: int
    st_uid: int
    st_gid: int
    st_size: int
    st_atime_ns: int
    st_mtime_ns: int
    update_mode: bool
    update_uid: bool
    update_gid: bool
    update_size: bool
    update_atime: bool
    update_mtime: bool
    update_ctime: bool


def name(body: bytes, start: int = 0) -> bytes:
    """Return the one name that a body ends with."""
    return body[start:].rstrip(b"\0")


def two_names(body: bytes, start: int = 0) -> tuple[bytes, bytes]:
    """Return the two names that a body ends with."""
    first, second = body[start:].split(b"\0")[:2]
    return first, second


def with_umask(request: Request, umask: int) -> Request:
    """Return a request with its client's umask, which only some bodies tell."""
    return request._replace(umask=umask)


def setattr_of(body: bytes) -> Setattr:
    """Return what SETATTR sets. A time that is to be now is now: the kernel sends no other then."""
    valid, _, _, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _ = SETATTR.unpack_from(body)
    now = time.time_ns() if valid & (_ATIME_NOW | _MTIME_NOW) else 0
    return Setattr(
        mode, uid, gid, size,
        now if valid & _ATIME_NOW and not valid & _ATIME else _signed(atime) * _NS + atime_ns,
        now if valid & _MTIME_NOW and not valid & _MTIME else _signed(mtime) * _NS + mtime_ns,
        bool(valid & _MODE), bool(valid & _UID), bool(valid & _GID), bool(valid & _SIZE),
        bool(valid & (_ATIME | _ATIME_NOW)), bool(valid & (_MTIME | _MTIME_NOW)), bool(valid & _CTIME),
    )  # fmt: skip


def _signed(seconds: int) -> int:
    """Return seconds as they were meant: before 1970 they are negative."""
    return seconds - (1 << 64) if seconds >> 63 else seconds


def setxattr_of(body: bytes) -> tuple[bytes, bytes, int]:
    """Return name, value and flags of SETXATTR."""
    size, flags = SETXATTR.unpack_from(body)
    end = body.index(b"\0", SETXATTR.size)
    return body[SETXATTR.size : end], body[end + 1 : end + 1 + size], flags


def is_for_terminal(body: bytes) -> bool:
    """Tell whether an IOCTL is one of a terminal's (asm-generic/ioctls.h): whether a file is one is often asked."""
    return bool(IOCTL.unpack_from(body)[2] >> 8 == ord("T"))


def xattr_names(wanted: int, names: Sequence[bytes]) -> bytes:
    """Return the answer to LISTXATTR: the names, or their length where `wanted` [bytes] is 0. Raises ERANGE."""
    return wire.xattr(wanted, b"".join(each + b"\0" for each in names))


def written(body: bytes) -> tuple[int, int, memoryview]:
    """Return handle, offset and data of WRITE."""
    handle, offset, size, *_ = WRITE.unpack_from(body)
    data = memoryview(body)[WRITE.size :]
    if len(data) < size:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return handle, offset, data[:size]
