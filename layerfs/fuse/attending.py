"""What a server attends to beside requests while it has no session: signals, idle time, the root's owner, the import.

A session does the same with tasks (server.py). All of it is done in the one thread, between requests; only what would
wait for an answer of our own is done by a child, or by a thread.
"""

import errno
import os
import select
from collections.abc import Callable, Iterable
from signal import SIGTERM, raise_signal
from time import perf_counter
from typing import TYPE_CHECKING, Final, Self

from layerfs.fuse import mount_child
from layerfs.fuse.config import Idle, ServeConfig, ending_signals
from layerfs.sys import signals
from layerfs.sys.files import content
from layerfs.sys.logs import logger

if TYPE_CHECKING:
    import threading

    from layerfs.lane.lane import Lane

    Poll = select.poll | select.epoll

GRACE: Final = 2.0  # seconds that requests have to end when the mount is left while it is in use; guessed
UNSEEN: Final = 0.1  # seconds after which the kernel is made to look at the root; guessed
SWITCH: Final = "LAYERFS_SESSION"  # in the environment: `first` begins a session at once, `needed` only if it must be
PAYS: Final = 0.1  # seconds spent on answers; about what the import of the session costs


class Attending:
    """What one server attends to. `begin_import` begins the import; what it returns is readable when that has ended."""

    def __init__(self, config: ServeConfig, begin_import: Callable[[], int]) -> None:
        self._config = config
        self._begin_import = begin_import
        self._signals = signals.open_signals(ending_signals())
        self._poll: Poll | None = None
        self.natively: Lane | None = None  # that answers requests which are not told of here
        self._attendants: dict[int, Callable[[], bool]] = {self._signals: self._told}
        self._imported = -1
        self._owned = [self._signals]  # not what a thread may write to yet
        self._children: list[int] = []
        self._leavers: dict[int, threading.Thread] = {}
        self._requests = 0
        self._last = self._now = perf_counter()
        self._root_at: float | None = self._now + UNSEEN
        self._idle = config.idle
        self._idle_at = None if self._idle is None else self._now + self._idle.seconds
        self._end_at: float | None = None
        self._is_over = False
        self.is_leaving = False
        pays = os.environ.get(SWITCH)
        self._pays = {"first": 0.0, "needed": float("inf")}.get(pays or "", PAYS)
        self._may_pay = self._pays
        self._delayed = _delayed()

    # What the reader of the device calls

    def watch(self, poll: "Poll") -> None:
        """Have our descriptors polled, too; in the place of what polled them before."""
        self._poll = poll
        for fd in self._attendants:
            poll.register(fd, select.POLLIN)

    def patience(self) -> int | None:
        """Return how long the reader may sleep [ms]."""
        due = [at for at in (self._root_at, self._idle_at, self._end_at) if at is not None]
        return max(0, int((min(due) - perf_counter()) * 1000) + 1) if due else None

    def is_over(self, readable: Iterable[int]) -> bool:
        """Attend to descriptors of ours; True if the prelude is over. Raises ENODEV: the mount is left."""
        return any(self._attendants[fd]() for fd in readable)

    def look(self) -> None:
        """Do what is due. Raises ENODEV: the mount is left."""
        now = perf_counter()
        if self._root_at is not None and now >= self._root_at:
            self.show_root()
        if self._end_at is not None and now >= self._end_at:
            raise _left()
        if self._idle is not None and self._idle_at is not None and now >= self._idle_at:
            self._see_whether_idle(self._idle, now)

    # What the prelude tells

    def met(self, now: float, *, shows_root: bool) -> None:
        """Note a request."""
        self._requests += 1
        self._last = now
        if shows_root:
            self._root_at = None

    @property
    def requests(self) -> int:
        """How many were met so far, some perhaps counted twice: who wants to know whether there were any compares."""
        return self._requests if self.natively is None else self._requests + self.natively.met

    def _last_request(self) -> float:
        return self._last if self.natively is None else max(self._last, self.natively.last)

    def has_spent(self, seconds: float) -> None:
        """Note how long all answers took together: at some point the session pays.

        For how long others had the processor meanwhile does not count: where many mounts begin at once, all would
        import because all import.
        """
        if seconds >= self._may_pay and self._imported < 0 and not self.is_leaving:
            lacking = self._pays - seconds + _delayed() - self._delayed
            self._may_pay = seconds + lacking
            if lacking <= 0 or not self._pays:
                self.begin_import()

    def begin_import(self) -> None:
        """Have the import begin, if it has not."""
        if self._imported < 0:
            self._imported = self._begin_import()
            self._add(self._imported, self._has_imported)

    def spare_root(self) -> None:
        """Have nobody look at the root, whose owner is whom the kernel takes for it."""
        self._root_at = None

    def show_root(self) -> None:
        """Have a child stat the root, unless a client has done so.

        Until the kernel has asked once for the root it takes root for the owner, and refuses a person's chmod of the
        mountpoint by itself. It is only the last resort: while the child asks, the mount is in use, and who unmounts a
        mount that was just made would find it busy.
        """
        if self._root_at is not None:
            self._root_at = None
            self._children.append(mount_child.ask(self._stat_root))

    def _stat_root(self) -> int:
        os.stat(self._config.mountpoint)
        return mount_child.GONE

    def _add(self, fd: int, attendant: Callable[[], bool]) -> None:
        self._attendants[fd] = attendant
        if self._poll is not None:
            self._poll.register(fd, select.POLLIN)

    def _remove(self, fd: int) -> None:
        del self._attendants[fd]
        if self._poll is not None:
            self._poll.unregister(fd)
        os.close(fd)

    def _has_imported(self) -> bool:
        if self.is_leaving and self._poll is not None:
            self._poll.unregister(self._imported)
        return not self.is_leaving

    # The end by a signal

    def _told(self) -> bool:
        """Unmount, by a child, while we answer: umount(2) writes back what is dirty, through us."""
        if not signals.take(self._signals) or self.is_leaving:
            return False
        self.is_leaving = True
        try:
            child = mount_child.leave(self._config.mountpoint)
        except OSError as error:
            self._cannot_leave(error)
        waiting = os.pidfd_open(child)
        self._owned.append(waiting)
        self._add(waiting, lambda: self._has_left(child, waiting))
        return False

    def _has_left(self, child: int, waiting: int) -> bool:
        """End the prelude: at once if the mount is gone; if it is in use, after GRACE for the running requests."""
        self._owned.remove(waiting)
        self._remove(waiting)
        try:
            if mount_child.result(child) == mount_child.GONE:
                raise _left()
        except OSError as error:
            if error.errno == errno.ENODEV:
                raise
            self._cannot_leave(error)
        self._end_at = perf_counter() + GRACE
        return False

    def _cannot_leave(self, error: OSError) -> None:
        logger(__name__).warning("cannot unmount %r: %s", self._config.mountpoint, error)
        raise _left()

    # The end of a mount that nobody uses

    def _see_whether_idle(self, idle: Idle, now: float) -> None:
        if now < (last := self._last_request()) + idle.seconds:
            self._idle_at = last + idle.seconds
            return
        import threading  # few servers come here

        self._idle_at = None
        asked = os.eventfd(0, os.EFD_CLOEXEC)
        seen, leave, failures = self.requests, idle.leave, list[OSError]()

        def try_to_leave() -> None:
            try:
                leave(lambda: self.requests == seen and not self._is_over)
            except OSError as error:
                failures.append(error)
            os.eventfd_write(asked, 1)

        self._add(asked, lambda: self._has_tried(idle, asked, failures))
        self._leavers[asked] = threading.Thread(target=try_to_leave, name="layerfs-idle", daemon=True)
        self._leavers[asked].start()

    def _has_tried(self, idle: Idle, asked: int, failures: list[OSError]) -> bool:
        """Restart the idle time after a try to unmount. If the mount is gone, the device says so."""
        self._leavers.pop(asked).join()
        self._remove(asked)
        if failures:
            logger(__name__).warning("idle, but cannot unmount: %s", failures[0])
        self._idle_at = perf_counter() + idle.seconds
        return False

    # The end of the prelude

    def close(self) -> None:
        """Attend to nothing more. What a signal asked for is left to the session, if there is one."""
        self._is_over = True
        if self.is_leaving:
            raise_signal(SIGTERM)
        for fd in self._owned:
            os.close(fd)
        self._owned.clear()

    def reap(self) -> None:
        """Wait for the children, and for the thread that unmounted an unused mount: it removes what was left.

        To be called when the mount has ended: then none of them waits for an answer.
        """
        for asked, leaver in self._leavers.items():
            leaver.join()
            os.close(asked)
        self._leavers.clear()
        for child in self._children:
            try:
                mount_child.result(child)
            except OSError:
                pass
        self._children.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _delayed() -> float:
    """Return for how long this thread has waited for a processor [s]; 0 where the kernel does not tell us."""
    try:
        return int(content("/proc/self/schedstat").split()[1]) / 1e9
    except (OSError, IndexError):  # also where no descriptor is left
        return 0.0


def _left() -> OSError:
    return OSError(errno.ENODEV, os.strerror(errno.ENODEV))
