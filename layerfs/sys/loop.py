"""Squashfs images mounted through loop devices, without a place in the tree: no mountpoint of theirs is ever seen.

The kernel reads squashfs from block devices only (tried on 6.18: a file is refused with ENOTBLK). Nothing here outlives
its use: a device is freed by the kernel (autoclear) when its mount is gone and no descriptor is left, so also when this
process is killed half way. Where one image takes 5 ms, 128 take 205 ms one after the other and 47 ms by 8 threads.
"""

import errno
import os
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import IntFlag
from fcntl import ioctl
from threading import Lock
from typing import Final

from layerfs.sys.fsmount import FsContext
from layerfs.sys.mounts import MountFlag

CONTROL: Final = b"/dev/loop-control"
SECTOR: Final = 512  # bytes; a device ends at the last whole one of its file
PATIENCE: Final = 20.0  # s to find a device that nobody else takes first; guessed

# linux/loop.h
SET_FD: Final = 0x4C00
CLR_FD: Final = 0x4C01
SET_STATUS64: Final = 0x4C04
SET_DIRECT_IO: Final = 0x4C08
CONFIGURE: Final = 0x4C0A
CTL_GET_FREE: Final = 0x4C82
_INFO: Final = struct.Struct("=5Q4I64s64s32s2Q")  # struct loop_info64
_CONFIG: Final = struct.Struct(f"=2I{_INFO.size}s8Q")  # struct loop_config
_NAME_SIZE: Final = 63  # bytes of lo_file_name, its NUL not counted

_BUSY: Final = (errno.EBUSY, errno.ENXIO)  # taken, or being freed, since it was offered
_turn: Final = Lock()  # threads that ask at once are offered one device, and all but one have to ask again


class LoopFlag(IntFlag):
    """LO_FLAGS_* (linux/loop.h)."""

    READ_ONLY = 1
    AUTOCLEAR = 4
    DIRECT_IO = 16


# Direct I/O keeps an image from being cached twice, packed and unpacked. It has its price where squashfs, whose cache
# holds eight blocks of metadata, reads one again, measured on 10,000 files of 4 KiB that nothing had cached: the first
# listing of 10 images 141 ms instead of 76, of 128 images four times as much; files in order 200 us instead of 120.
FLAGS: Final = LoopFlag.READ_ONLY | LoopFlag.AUTOCLEAR | LoopFlag.DIRECT_IO


def mount_image(path: bytes, offset: int) -> int:
    """Return a descriptor of a mount of the squashfs image that begins at `offset` [bytes] of a file; it is nowhere.

    Any thread may call it. Raises OSError: EPERM or EACCES where this process may not, ENODEV where the kernel has no
    squashfs, ENOENT without loop devices or the file; EINVAL, EIO and others with the kernel's words for the image.
    """
    with FsContext(b"squashfs") as context, device_of(path, offset) as device:  # no device where it cannot be mounted
        context.set_string(b"source", device)
        context.create(MountFlag.RDONLY)
        return context.mount(MountFlag.RDONLY)


@contextmanager
def device_of(path: bytes, offset: int = 0) -> Iterator[bytes]:
    """Yield the path of a read-only loop device that shows a file from `offset` [bytes] on.

    It is freed at the end, or later when what was mounted from it is.
    """
    image = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not keep us
    with ExitStack() as closing:
        closing.callback(os.close, image)
        device, name = _attach(image, _info(path, offset))
        closing.callback(os.close, device)
        yield name


def _info(path: bytes, offset: int) -> bytes:
    return _INFO.pack(0, 0, 0, offset, 0, 0, 0, 0, FLAGS, path[:_NAME_SIZE], b"", b"", 0, 0)


def _attach(image: int, info: bytes) -> tuple[int, bytes]:
    """Show an open file on a free device; return the device's descriptor and its path."""
    deadline = time.monotonic() + PATIENCE
    with open_control() as control, _turn:
        while True:
            number = free_device(control)
            try:
                return _claim(number, image, info)
            except OSError as error:  # another process was quicker
                if error.errno not in _BUSY or time.monotonic() > deadline:
                    raise


@contextmanager
def open_control() -> Iterator[int]:
    """Open the device that gives out loop devices; its absence and its refusal raise OSError."""
    control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield control
    finally:
        os.close(control)


def free_device(control: int) -> int:
    """Return the number of a device that nobody has taken yet, made by the kernel if need be."""
    return ioctl(control, CTL_GET_FREE)


def _claim(number: int, image: int, info: bytes) -> tuple[int, bytes]:
    """Take a device; OSError with one of _BUSY if it is not free any more."""
    name = b"/dev/loop%d" % number
    device = _open(name, number)
    try:
        _configure(device, image, info)
    except BaseException:
        os.close(device)
        raise
    return device, name


def _open(name: bytes, number: int) -> int:
    """Open a device, whose node is made where no udev and no devtmpfs does."""
    try:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        with open(f"/sys/block/loop{number}/dev", "rb") as file:
            major, minor = map(int, file.read().split(b":"))
    try:
        os.mknod(name, stat.S_IFBLK | 0o660, os.makedev(major, minor))
    except FileExistsError:
        pass
    return os.open(name, os.O_RDONLY | os.O_CLOEXEC)


def _configure(device: int, image: int, info: bytes) -> None:
    """Show a file on a device in one step, which Linux 5.8 has; else in two."""
    try:
        ioctl(device, CONFIGURE, _CONFIG.pack(image, 0, info, *(0,) * 8))
    except OSError as error:
        # EINVAL is also said of direct I/O that the file cannot have: its filesystem's blocks, or the offset.
        if error.errno not in (errno.EINVAL, errno.ENOTTY):
            raise
        _configure_stepwise(device, image, info)


def _configure_stepwise(device: int, image: int, info: bytes) -> None:
    """Show a file on a device, without direct I/O where that is refused. Killed within, it leaves the device taken."""
    fields = list(_INFO.unpack(info))
    fields[8] &= ~LoopFlag.DIRECT_IO
    ioctl(device, SET_FD, image)
    try:
        ioctl(device, SET_STATUS64, _INFO.pack(*fields))
    except BaseException:
        ioctl(device, CLR_FD, 0)
        raise
    try:
        ioctl(device, SET_DIRECT_IO, 1)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
