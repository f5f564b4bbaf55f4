"""Project quotas: a limit on what a directory with all below it may take, where its filesystem keeps them.

ext4 (features quota and project, mounted prjquota) and XFS (mounted prjquota) do. A project is a number that new files
inherit from their directory; the limit belongs to the number (quotactl(2), xfs_quota(8) "project").
"""

import ctypes
import errno
import fcntl
import os
import struct
from typing import Final

from layerfs.sys import libc

_GET, _SET = 0x801C581F, 0x401C5820  # FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR
_FSXATTR: Final = struct.Struct("=IIIII8x")  # flags, extent size, extents, project, CoW extent size
_INHERIT: Final = 0x200  # FS_XFLAG_PROJINHERIT
_QUOTACTL_FD: Final = 443  # since Linux 5.14, the same on all architectures but alpha
_GET_QUOTA, _SET_QUOTA = 0x800007 << 8 | 2, 0x800008 << 8 | 2  # QCMD(Q_GETQUOTA and Q_SETQUOTA, PRJQUOTA)
_DQBLK: Final = struct.Struct("=QQQQQQQQI4x")  # hard and soft limit of blocks, bytes, the same of inodes, times, valid
_LIMITS: Final = 1  # QIF_BLIMITS
_BLOCK: Final = 1024  # bytes of a quota's block
_FIRST: Final = 0x6C000000  # of our projects; other programs count from small numbers
_COUNT: Final = 1 << 24
_TRIES: Final = 64
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# No quotas in this kernel, filesystem or mount, or not for this user.
_NONE: Final = (errno.ENOSYS, errno.ENOTTY, errno.EOPNOTSUPP, errno.ESRCH, errno.EPERM, errno.EINVAL, errno.ENOTBLK)


def limit(path: bytes, size: int, hint: int) -> bool:
    """Let an empty directory, with all that will be made below it, take no more than `size` bytes.

    `hint` spreads the numbers of projects. Returns False where the filesystem keeps no project quotas.
    """
    fd = os.open(path, _DIRECTORY)
    try:
        for step in range(_TRIES):
            project = _FIRST + (hint + step) % _COUNT
            blocks, _, taken, *_ = _quota(fd, project)
            if not blocks and not taken:
                _set_limit(fd, project, -(-size // _BLOCK))
                flags, extent, extents, _, cow = _FSXATTR.unpack(fcntl.ioctl(fd, _GET, bytes(_FSXATTR.size)))
                fcntl.ioctl(fd, _SET, _FSXATTR.pack(flags | _INHERIT, extent, extents, project, cow))
                return True
        raise OSError(errno.EBUSY, "no project is free for a quota", path)
    except OSError as error:
        if error.errno in _NONE:
            return False
        raise
    finally:
        os.close(fd)


def forget(path: bytes) -> None:
    """Take the limit of a directory away, so that its project may be another's; one without a limit is fine."""
    try:
        fd = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return
    try:
        project = _FSXATTR.unpack(fcntl.ioctl(fd, _GET, bytes(_FSXATTR.size)))[3]
        if _FIRST <= project < _FIRST + _COUNT:
            _set_limit(fd, project, 0)
    except OSError as error:
        if error.errno not in _NONE:
            raise
    finally:
        os.close(fd)


def _quota(fd: int, project: int) -> tuple[int, ...]:
    buffer = ctypes.create_string_buffer(_DQBLK.size)
    try:
        libc.call(_QUOTACTL_FD, fd, _GET_QUOTA, project, buffer)
    except OSError as error:
        if error.errno != errno.ENOENT:  # XFS: nothing was ever counted for it
            raise
    return _DQBLK.unpack(buffer.raw)


def _set_limit(fd: int, project: int, blocks: int) -> None:
    data = _DQBLK.pack(blocks, blocks, 0, 0, 0, 0, 0, 0, _LIMITS)
    libc.call(_QUOTACTL_FD, fd, _SET_QUOTA, project, ctypes.create_string_buffer(data, _DQBLK.size))
