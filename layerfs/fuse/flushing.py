"""Has the kernel write back what it holds dirty of our mount, so that the upper's files tell the truth.

The kernel flushes before most requests by itself, but not before LSEEK: with the writeback cache a file that somebody
writes to may look like a hole in the upper. A child asks for the flush, for the reason in mount_child.py; it is started
when it is first needed, and ends when the server does.
"""

import errno
import os
import signal
from contextlib import suppress

import trio

from layerfs.fuse import mount_child
from layerfs.fuse.config import ending_signals
from layerfs.sys.sync import sync_filesystem

_ASK, _DONE, _FAILED = b"?", b"+", b"-"


class Flusher:
    """The child of one server that flushes its mount."""

    def __init__(self, mountpoint: bytes) -> None:
        self._mountpoint = mountpoint
        self._child = 0
        self._ask = self._told = -1
        self._turn = trio.Lock()

    async def flush(self) -> None:
        """Return when all that was dirty is written back. EINVAL where the mount cannot be reached: it is elsewhere."""
        async with self._turn:
            if not self._child:
                self._start()
            answer = await trio.to_thread.run_sync(self._exchange)
        if answer != _DONE:
            raise OSError(errno.EINVAL, "the mount is not at its mountpoint")

    def _exchange(self) -> bytes:
        try:
            os.write(self._ask, _ASK)
            return os.read(self._told, 1)
        except BrokenPipeError:
            return b""

    def _start(self) -> None:
        heard, self._ask = os.pipe2(os.O_CLOEXEC)
        self._told, said = os.pipe2(os.O_CLOEXEC)
        self._child = mount_child.ask(lambda: _serve(heard, said, self._mountpoint), {heard, said})
        os.close(heard)
        os.close(said)

    def close(self) -> None:
        """End the child."""
        if self._child:
            os.close(self._ask)
            os.close(self._told)
            with suppress(ChildProcessError):  # our parent had us ignore SIGCHLD
                os.waitpid(self._child, 0)
            self._child = 0


def _serve(heard: int, said: int, mountpoint: bytes) -> int:
    """Flush whenever told to, until the server ends. Runs in a fork: nothing here may touch trio or the union."""
    signal.set_wakeup_fd(-1)
    for number in ending_signals():
        signal.signal(number, signal.SIG_IGN)
    while os.read(heard, 1):
        try:
            sync_filesystem(mountpoint, only_fuse=True)
            answer = _DONE
        except OSError:
            answer = _FAILED
        with suppress(BrokenPipeError):
            os.write(said, answer)
    return mount_child.GONE
