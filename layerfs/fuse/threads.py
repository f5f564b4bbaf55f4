"""Threads for what the event loop must not wait for: data of copy-ups, large reads and writes, fsync.

Law: what runs in a thread touches descriptors and bytes, never the union's tables.

The way through trio costs 70 us and more, most of it scheduling. So the task that waits does not go to sleep in trio
at first: it polls for its own result, together with the gate. If the device or trio has something before that, the
task is suspended like any other, and another worker reads the device. Measured: a hop of 5 to 15 us.
"""

import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar, TypeVarTuple, cast

import trio

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

COPIERS = 4  # copies at once; guessed: more only make a disk seek
WORTH = 256 << 10  # bytes; to copy less at once costs less than the 100 us of a thread hop
THREADS = 8  # guessed: enough to keep a disk's queue busy, each may hold a megabyte


class Sleeper(Protocol):
    """Something that can wait for a thread and for the event loop at once: the gate (event_loop.py)."""

    def linger(self, fd: int) -> bool:
        """Sleep until `fd` is readable; False when anything else the loop waits for comes first."""


class _Job(Generic[T]):
    """One call on its way through a thread. `outcome` is set by the thread, `task` only in the loop."""

    __slots__ = ("_call", "failure", "outcome", "over", "parked", "task")

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self.over = False
        self.parked = False
        self.task: trio.lowlevel.Task | None = None
        self.failure: BaseException | None = None
        self.outcome: T | None = None

    def execute(self) -> None:
        """Call, and keep what comes of it; `over` is set last."""
        try:
            self.outcome = self._call()
        except BaseException as error:
            self.failure = error
        self.over = True

    def wake(self) -> None:
        """Continue the task that waits; nothing when it has seen the end by itself."""
        if self.task is not None:
            task, self.task = self.task, None
            trio.lowlevel.reschedule(task)

    async def park(self) -> None:
        """Suspend the task until `wake` is called."""
        self.task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

    def result(self) -> T:
        """Return or raise what the call did."""
        if self.failure is not None:
            try:
                raise self.failure
            finally:
                self.failure = None  # the traceback refers to this frame
        return cast(T, self.outcome)


class ByteThreads:
    """Threads for one trio loop; they are started when needed, and end with `close`."""

    def __init__(self, sleeper: Sleeper) -> None:
        self._sleeper = sleeper
        self._jobs: SimpleQueue[tuple[_Job[object], trio.lowlevel.TrioToken] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    async def run(self, function: Callable[[*Arguments], T], *args: *Arguments) -> T:
        """Run `function` in a thread and return what it returns; a cancelled caller still waits for it to end."""
        job = _Job(lambda: function(*args))
        self._busy += 1
        try:
            if self._busy > len(self._threads) < THREADS:
                self._start()
            self._jobs.put((cast("_Job[object]", job), trio.lowlevel.current_trio_token()))
            self._linger(cast("_Job[object]", job))
            job.parked = True  # from here on the thread wakes the task; what it did before that shows in `over`
            if not job.over:
                await job.park()
        finally:
            self._busy -= 1
        return job.result()

    def _linger(self, job: _Job[object]) -> None:
        """Wait for the job for as long as the loop has nothing else to do."""
        while not job.over and self._sleeper.linger(self._bell):
            os.eventfd_read(self._bell)

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="layerfs-bytes", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, token = item
            job.execute()
            if job.parked:
                token.run_sync_soon(job.wake)
            else:
                os.eventfd_write(self._bell, 1)
            del item, job  # a thread that waits keeps no data alive

    def close(self) -> None:
        """End the threads; every job is over."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        os.close(self._bell)

    @property
    def waiting(self) -> int:
        """How many jobs have no thread yet."""
        return max(self._busy - THREADS, 0)


_running: ByteThreads | None = None


@contextmanager
def running(sleeper: Sleeper) -> Iterator[None]:
    """Give `run` threads of its own for as long as the context lasts; one loop at a time."""
    global _running
    _running = ByteThreads(sleeper)
    try:
        yield
    finally:
        closing, _running = _running, None
        closing.close()


def are_crowded() -> bool:
    """Tell whether more work waits for a thread than all threads have."""
    return _running is not None and _running.waiting > THREADS


async def run(function: Callable[[*Arguments], T], *args: *Arguments) -> T:
    """Run `function` in a thread and return what it returns; a cancelled caller still waits for it to end."""
    if _running is None:  # a loop without the gate
        return await trio.to_thread.run_sync(function, *args)
    return await _running.run(function, *args)


class Threaded:
    """What answers await beside a trio loop (blocking.py). Copies have their own threads: no read queues there."""

    worth = WORTH

    def __init__(self) -> None:
        self._copiers = trio.CapacityLimiter(COPIERS)

    def run(self, function: Callable[[*Arguments], T], *args: *Arguments) -> Coroutine[Any, Any, T]:
        """Call a function in a thread."""
        return run(function, *args)

    def copy(self, function: Callable[[*Arguments], T], *args: *Arguments) -> Coroutine[Any, Any, T]:
        """Call a function in a thread that copies."""
        return trio.to_thread.run_sync(function, *args, limiter=self._copiers)

    def turn(self) -> Coroutine[Any, Any, None]:
        """Let the loop's other tasks run."""
        return trio.lowlevel.checkpoint()

    def rest(self) -> Coroutine[Any, Any, None]:
        """Let the loop's other tasks run."""
        return trio.lowlevel.checkpoint()

    def admit_long(self) -> None:
        """Go on: others are answered meanwhile."""

    def is_crowded(self) -> bool:
        """Tell whether more work waits for a thread than all threads have."""
        return are_crowded()

    def lock(self) -> trio.Lock:
        """Return a lock of the loop."""
        return trio.Lock()

    def event(self) -> trio.Event:
        """Return an event of the loop."""
        return trio.Event()
