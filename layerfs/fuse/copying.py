"""Copy-ups of large files: threads copy their data, while everybody else is answered.

Copies bring their data to disk as they go: were all of it dirty at once, the host would slow down everybody's writes.
And a copy ends when its client is killed: the client cannot end before it is answered, and pyfuse3 hands no INTERRUPT
on, so the copy asks now and then.
"""

import errno
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from typing import TYPE_CHECKING, Final

from layerfs.fuse.blocking import Blocking
from layerfs.sys.durable import start_writeback, wait_for_range
from layerfs.union.inodes import File
from layerfs.union.union import Union

if TYPE_CHECKING:
    from layerfs.union.copyup import Staged
    from layerfs.union.metacopy import Completion

STRIDE: Final = 16 << 20  # bytes that are written to disk in one go while the next are copied; guessed
_SIGKILL: Final = 1 << 8  # in a mask of pending signals


class CopyUps:
    """The copy-ups of one union that are under way; one for each file."""

    def __init__(self, union: Union, blocking: Blocking) -> None:
        self._union = union
        self._blocking = blocking
        # By file: the lock, and how many wait for it or hold it.
        self._locks: dict[int, tuple[AbstractAsyncContextManager[object], int]] = {}

    async def prepare(self, ino: int, client: int = 0) -> None:
        """Copy up a large lower file of which all may change but its data, if these are not to stay where they are."""
        node = self._union.node(ino)
        if isinstance(node, File) and self._is_large(node, None) and not self._union.stays_below(node):
            await self.ensure(ino, client)

    async def settle(self, ino: int, client: int = 0) -> None:
        """Have a large file, which is to be renamed or linked, find its data after that, or own them."""
        node = self._union.node(ino)
        if isinstance(node, File) and node.is_upper and not self._union.stays_below(node):
            await self.complete(ino, client)

    async def settle_victim(self, parent: int, name: bytes, client: int = 0) -> None:
        """Have a file that is to lose a name own its data, if somebody has it open and they are in a layer below."""
        if not self._union.options.metacopy or self._union.read_only:
            return
        try:
            node, _ = self._union.lookup(parent, name)
        except OSError:
            return  # the change itself says it
        self._union.remember(node)
        try:
            if isinstance(node, File) and node.extra is not None and node.extra.data is not None:
                await self.complete(node.ino, client)
        finally:
            self._union.forget(node.ino, 1)

    async def ensure(self, ino: int, client: int = 0, size: int | None = None) -> None:
        """Copy up a large lower file, at most `size` [bytes] of it; small files are copied up by the change itself.

        `client` is the thread that waits for it, 0 if that is unknown. Raises EINTR when it was killed.
        """
        node = self._union.node(ino)
        if not isinstance(node, File) or not self._is_large(node, size):
            return
        self._blocking.admit_long()
        async with self._locked(ino):
            staged = self._union.stage(node, size)
            if staged is None:
                return  # somebody else has copied it
            try:
                await self._blocking.copy(_copy, staged, client)
                self._union.adopt(staged)
            except BaseException:
                staged.discard()
                raise

    async def complete(self, ino: int, client: int = 0, *, cut: bool = False) -> None:
        """Give a large upper file that is only metadata its data, before it is written to.

        With `cut` its data are not needed, but who copies them now is waited for. Raises EINTR as `ensure`.
        """
        node = self._union.node(ino)
        if not isinstance(node, File) or not node.is_upper or (cut and ino not in self._locks):
            return
        completing = self._union.completion(node, self._blocking.worth)
        if completing is None:
            return
        with closing(completing):
            self._blocking.admit_long()
            async with self._locked(ino):
                if not cut and completing.is_needed:  # else somebody else has completed it
                    await self._blocking.copy(_copy, completing, client)
                    completing.finish()

    def _is_large(self, node: File, size: int | None) -> bool:
        return (size is None or size >= self._blocking.worth) and self._union.is_large_lower(node, self._blocking.worth)

    @asynccontextmanager
    async def _locked(self, ino: int) -> AsyncIterator[None]:
        """Hold the lock of one file, which exists only as long as it is needed."""
        lock, users = self._locks.get(ino) or (self._blocking.lock(), 0)
        self._locks[ino] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(ino)
            if users > 1:
                self._locks[ino] = lock, users - 1


def _copy(staged: "Staged | Completion", client: int) -> None:
    """Copy a file's data in a thread, so that what is left to do in the loop is short."""
    progress = _Progress(staged, client)
    staged.copy(progress)
    progress.finish()


def check_client(client: int) -> None:
    """Raise EINTR if the client that waits for the answer was killed; `client` is its thread, 0 if unknown."""
    if client and is_killed(client):
        raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))


class _Progress:
    """What happens between two chunks of a copy."""

    def __init__(self, staged: "Staged | Completion", client: int) -> None:
        self._fd = staged.fd if staged.must_be_durable and staged.fd is not None else -1
        self._client = client
        self._written = 0
        self._begun = 0

    def __call__(self, offset: int) -> None:
        check_client(self._client)
        if self._fd >= 0 and offset - self._begun >= STRIDE:
            start_writeback(self._fd, self._begun, offset - self._begun)
            wait_for_range(self._fd, self._written, self._begun - self._written)
            self._written, self._begun = self._begun, offset

    def finish(self) -> None:
        """Wait until all of the data is written."""
        if self._fd >= 0:
            wait_for_range(self._fd, self._written, 0)


def _exists(thread: int) -> bool:
    try:
        os.sched_getaffinity(thread)  # permitted for any thread
    except ProcessLookupError:
        return False
    return True


def is_killed(thread: int) -> bool:
    """Tell whether a thread of the host has ended, or is to end as soon as it is answered."""
    try:
        with open(f"/proc/{thread}/status", "rb") as status:
            pending = next(line for line in status if line.startswith(b"SigPnd:"))
    except (FileNotFoundError, ProcessLookupError):
        return not _exists(thread)  # /proc may hide others' processes (hidepid), or not be there
    except (OSError, StopIteration):
        return False
    return bool(int(pending.split()[1], 16) & _SIGKILL)
