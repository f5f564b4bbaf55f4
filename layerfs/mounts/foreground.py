"""Staying in the foreground with a mount that needs no server, until it is unmounted or a signal asks for that.

A supervisor sees one behaviour, whichever driver serves: READY=1 when the mount stands (sd_notify(3)), exit status 0
when somebody asked for the end, by a signal or by unmounting.
"""

import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from layerfs.fuse.config import ending_signals
from layerfs.mounts import registry
from layerfs.sys.mounts import unmount
from layerfs.sys.notify import notify

TABLE: Final = b"/proc/self/mountinfo"  # poll(2) says POLLPRI when it changes (proc(5))


def mount_and_stay(mountpoint: bytes, mount: Callable[[], None]) -> None:
    """Call `mount`, then `stay`; a signal that comes before the mount stands is heard once it does."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, ending_signals())
    try:
        mount()
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
        raise
    stay(mountpoint)


def stay(mountpoint: bytes) -> None:
    """Return when what is mounted at a path now is unmounted; on a signal that would end us, unmount it.

    To be called in the main thread of a process of its own. Raises OSError if it cannot be unmounted.
    """
    mount = registry.mount_id(mountpoint)
    ending = ending_signals()
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    table = os.open(TABLE, os.O_RDONLY | os.O_CLOEXEC)
    former = signal.set_wakeup_fd(wake)
    handlers = {number: signal.signal(number, _on_signal) for number in ending}
    try:
        notify("READY=1")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ending)
        if _is_told(mountpoint, mount, woken, table):
            notify("STOPPING=1")
            _unmount(mountpoint)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, ending)  # a second one must not kill us on our way out
        signal.set_wakeup_fd(former)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for fd in (woken, wake, table):
            os.close(fd)


def _on_signal(*_: object) -> None:
    """Let the signal be written to the pipe, and do nothing else."""


def _is_told(mountpoint: bytes, mount: int, woken: int, table: int) -> bool:
    """Wait; True when a signal came, False when the mount is gone."""
    poll = select.poll()
    poll.register(woken, select.POLLIN)
    poll.register(table, select.POLLPRI)
    while _is_mounted(mountpoint, mount):
        if any(fd == woken for fd, _ in poll.poll()):
            return True
    return False


def _is_mounted(mountpoint: bytes, mount: int) -> bool:
    try:
        return registry.mount_id(mountpoint) == mount
    except OSError:  # the mountpoint is gone, and with it the mount
        return False


def _unmount(mountpoint: bytes) -> None:
    """Unmount; what is in use is detached, and its data are on disk as soon as its last user has gone."""
    try:
        unmount(mountpoint)
        return
    except OSError:
        pass  # in use
    with suppress(FileNotFoundError):
        unmount(mountpoint, lazy=True)
