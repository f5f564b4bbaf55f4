"""Requests of a server to its own mount are made by a child that has no copy of the device.

Whoever asks a mount waits until the server answers, or until the last copy of the device is closed. A thread of the
server that asks would itself keep the device open: were the server killed at that moment, the thread could not end
before it is answered, and nobody else would answer it. A child has closed the device, so it is told that the server
is dead.
"""

import errno
import os
from collections.abc import Callable, Iterable
from typing import Final

from layerfs.sys.descriptors import STDIO, close_all_but
from layerfs.sys.mountinfo import DEAD
from layerfs.sys.mounts import unmount
from layerfs.sys.sync import sync_filesystem

GONE: Final = 0  # exit statuses of a child that unmounts
DETACHED: Final = 1
_FAILED: Final = 100  # and the errno


def ask(action: Callable[[], int], keep: Iterable[int] = ()) -> int:
    """Start a child that does something to the mount and exits with what `action` returns; return its pid.

    Of our descriptors it has stdio and those in `keep`.
    """
    pid = os.fork()
    if pid:
        return pid
    status = _FAILED
    try:
        close_all_but((*STDIO, *keep))
        status = action()
    except OSError as error:
        status = _FAILED + (error.errno or 0)
    finally:
        os._exit(status)


def result(pid: int) -> int:
    """Wait for a child; return what its action did. Raises the OSError that ended it."""
    try:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:  # somebody has us ignore SIGCHLD
        return GONE
    if status < 0:
        raise OSError(errno.EINTR, "the child that unmounts was killed")
    if status >= _FAILED:
        code = status - _FAILED or errno.EIO
        raise OSError(code, os.strerror(code))
    return status


def leave(mountpoint: bytes) -> int:
    """Have a child unmount; `result` says GONE, or DETACHED if the mount is still in use: then it was written back."""
    return ask(lambda: _leave(mountpoint))


def _leave(mountpoint: bytes) -> int:
    try:
        unmount(mountpoint)
        return GONE
    except OSError as error:
        if error.errno == errno.EINVAL:  # not mounted where we are: `layerfs run` let go of our copy
            return DETACHED
        if error.errno != errno.EBUSY:
            raise
    sync_filesystem(mountpoint)
    unmount(mountpoint, lazy=True)
    return DETACHED


def clear_dead_mount(mountpoint: bytes) -> bool:
    """Take away what an aborted connection leaves: a mountpoint that answers ENOTCONN. True if there was one.

    To be called when every copy of the device is closed.
    """
    try:
        os.statvfs(mountpoint)  # asks the server, whatever the kernel has cached
    except OSError as error:
        if error.errno in DEAD:
            unmount(mountpoint, lazy=True)
            return True
    return False
