"""Blobs handled side by side: a few threads, the largest blob first, the first error ends all of it."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Final

from layerfs.oci.digest import Digest
from layerfs.oci.documents import Descriptor

WORKERS: Final = 3  # blobs at once
GRACE: Final = 1.0  # s; how long what is to end is waited for

Progress = Callable[[str, Digest, int, int], None]  # what is done, to which blob, bytes so far, bytes in all


def silent(word: str, digest: Digest, done: int, total: int) -> None:
    """Report no progress."""


class Stopped(Exception):
    """Another blob has failed, or nobody wants the work any more."""


class Stop:
    """Tells the threads of one piece of work to end. Work calls it between pieces; it raises then.

    check: the caller's own; what it raises passes.
    """

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self._check = check
        self._event = Event()

    def __call__(self) -> None:
        """Raise Stopped, or what the caller's check raises, if the work is to end."""
        self._check()
        if self._event.is_set():
            raise Stopped

    def set(self) -> None:
        """Tell the work to end."""
        self._event.set()

    def wait(self, seconds: float) -> None:
        """Wait, and raise as soon as the work is to end."""
        end = time.monotonic() + seconds
        self()
        while (left := end - time.monotonic()) > 0:
            self._event.wait(min(left, 0.2))
            self()


def for_each_blob(blobs: Iterable[Descriptor], work: Callable[[Descriptor], None], stop: Stop) -> None:
    """Call `work` once for each digest, in threads, and return when all calls have ended.

    Raises what the first call to fail raised; Ctrl-C passes. Calls that have begun are told by `stop` then, the others
    are not begun. A thread that a system call keeps (a network that is gone, a slow disk) is left alone after GRACE:
    it ends with the process, or at its next question to `stop`.
    """
    left = deque(sorted({blob.digest: blob for blob in blobs}.values(), key=lambda each: -each.size))
    ended: SimpleQueue[BaseException | None] = SimpleQueue()

    def labour() -> None:
        try:
            while left:
                try:
                    blob = left.popleft()
                except IndexError:  # another thread was quicker
                    break
                work(blob)
            ended.put(None)
        except BaseException as error:
            ended.put(error)

    running = min(WORKERS, len(left))
    try:
        # Threads of a pool would be waited for by the interpreter's end, however long a system call takes.
        for number in range(running):
            Thread(target=labour, name=f"blobs-{number}", daemon=True).start()
        while running:
            error = ended.get()
            running -= 1
            if error is not None:
                raise error
    except BaseException:
        stop.set()
        left.clear()
        _wait(ended, running)
        raise


def _wait(ended: "SimpleQueue[BaseException | None]", running: int) -> None:
    """Wait until so many threads have ended, GRACE seconds at most."""
    deadline = time.monotonic() + GRACE
    for _ in range(running):
        try:
            ended.get(timeout=max(deadline - time.monotonic(), 0))
        except Empty:
            return
