"""What stat(2) does not tell of a file: when it was made, its inode flags (chattr(1)), its project."""

import ctypes
import fcntl
import os
from typing import Final

from layerfs.sys import libc

GETFLAGS: Final = 0x80086601  # linux/fs.h, FS_IOC_GETFLAGS: _IOR('f', 1, long), though it gives an int
SETFLAGS: Final = 0x40086602
FSGETXATTR: Final = 0x801C581F  # struct fsxattr, 28 bytes
FSSETXATTR: Final = 0x401C5820
SIZES: Final = {GETFLAGS: 4, SETFLAGS: 4, FSGETXATTR: 28, FSSETXATTR: 28}  # bytes; of what each gives or takes
APPEND: Final = 0x20  # FS_APPEND_FL
IMMUTABLE: Final = 0x10  # FS_IMMUTABLE_FL
SYNC: Final = 0x8  # FS_SYNC_FL
NOATIME: Final = 0x80  # FS_NOATIME_FL
_AT_EMPTY_PATH: Final = 0x1000
_STATX_BTIME: Final = 0x800
_STATX_SIZE: Final = 256  # bytes of struct statx
_BTIME_AT: Final = 80  # where stx_btime is in it
_NS: Final = 1_000_000_000


def birth_time(fd: int) -> int | None:
    """Return when an object was made, in ns since 1970; None where its filesystem does not know. O_PATH will do."""
    buffer = ctypes.create_string_buffer(_STATX_SIZE)
    libc.call("statx", fd, b"", _AT_EMPTY_PATH, _STATX_BTIME, buffer)
    if not ctypes.c_uint32.from_buffer(buffer).value & _STATX_BTIME:
        return None
    seconds = ctypes.c_int64.from_buffer(buffer, _BTIME_AT).value
    return seconds * _NS + ctypes.c_uint32.from_buffer(buffer, _BTIME_AT + 8).value


def read(fd: int, command: int) -> bytes:
    """Return what GETFLAGS or FSGETXATTR gives. ENOTTY where the filesystem has no such flags."""
    return fcntl.ioctl(fd, command, bytes(max(SIZES[command], 8)))[: SIZES[command]]


def write(fd: int, command: int, value: bytes) -> None:
    """Do what SETFLAGS or FSSETXATTR asks for."""
    fcntl.ioctl(fd, command, value.ljust(8, b"\0"))


def open_directory(fd: int) -> int:
    """Return a descriptor of a directory by which it may be asked; `fd` may be a mere path of it."""
    return os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
