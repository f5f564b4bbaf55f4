"""A child that stands by a server that still imports: it ends one whose mount is gone, and shows the kernel the root.

Whoever unmounts a mount that was just made often wants the filesystem of its layers next. The server itself hears of
the end late: it is busy importing, on a machine that may be busy, and the thread that hears it must wait for the
interpreter. This child sleeps, so it is woken at once, and kills the server, which has written nothing yet. The kernel
then closes the layers without waiting for anybody.
"""

import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress

from layerfs.fuse import mount_child

FOREVER = -1
HIGHEST = -20  # nice(2)


class Companion:
    """The child of one server, from FUSE_INIT to the end of the prelude.

    `orphaned` is called in the child when it has killed the server, for what the server would have done at its end.
    Without it the server is not killed.

    Until the kernel has asked once for the root it takes root for the owner, and refuses a person's chmod of the
    mountpoint by itself. Mostly a client's first look makes it ask. To stat the root for that is only the last resort:
    while it is being asked for, the mount is in use, and who unmounts a mount that was just made would find it busy.
    """

    def __init__(self, device: int, mountpoint: bytes, orphaned: Callable[[], None] | None = None) -> None:
        """Start the child, which is cheap as long as the server is small."""
        heard, self._said = os.pipe2(os.O_CLOEXEC)
        server = os.getpid()

        def stand_by() -> int:
            if orphaned is not None and _outlives(device, heard, server):
                mount_child.clear_dead_mount(mountpoint)
                orphaned()
                return mount_child.GONE
            os.closerange(device, device + 1)  # whoever asks the mount must not hold it
            if os.read(heard, 1):
                os.stat(mountpoint)
            return mount_child.GONE

        self._pid = mount_child.ask(stand_by, {heard, device} if orphaned is not None else {heard})
        os.close(heard)

    def close(self, *, show: bool = False) -> None:
        """Have the child watch no more, stat the root if wanted, and end."""
        said, self._said = self._said, -1
        if said >= 0:
            if show:
                with suppress(BrokenPipeError):
                    os.write(said, b"x")
            os.close(said)

    def reap(self) -> None:
        """Wait for the child; to be called when the mount has ended."""
        self.close()
        with suppress(OSError):
            mount_child.result(self._pid)


def _outlives(device: int, heard: int, server: int) -> bool:
    """Watch until the server says something or ends, then False; or until the mount has ended: kill it, then True.

    Nothing that takes time stands between the end of the mount and kill(2).
    """
    _be_woken_at_once()
    watched = os.pidfd_open(server)
    poll = select.poll()
    poll.register(heard, select.POLLIN)
    poll.register(watched, select.POLLIN)
    poll.register(device, 0)  # its end alone, POLLERR
    if os.getppid() != server or [fd for fd, _ in poll.poll()] != [device] or _is_readable(heard):
        return False  # what has said something may have written by now
    signal.pidfd_send_signal(watched, signal.SIGKILL)
    _hurry(server)
    os.close(device)
    while not _is_readable(watched, FOREVER):
        pass
    return True


def _be_woken_at_once() -> None:
    """Leave the server's session, with which this child would share its processor time (sched(7), autogroup)."""
    os.setsid()
    _hurry(os.getpid())


def _hurry(process: int) -> None:
    """Have a process that will need a moment of the processor get it before others, as root may (sched(7)).

    An autogroup is a session's: one that is shared with others is left alone.
    """
    with suppress(OSError):
        if os.getsid(process) != process:
            return
        with open(f"/proc/{process}/autogroup", "w") as file:
            file.write(str(HIGHEST))
        os.setpriority(os.PRIO_PROCESS, process, HIGHEST)


def _is_readable(fd: int, patience: int = 0) -> bool:
    """Tell whether a descriptor can be read; it may take `patience` [ms] to become so."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(patience))
