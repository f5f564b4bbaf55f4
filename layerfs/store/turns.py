"""Locks that are handed over in the order in which they were asked for.

`Turns` is such a lock (a ticket lock). `AdvisoryTurns` excludes nobody for sure: a holder that takes long is passed by,
and nothing relies on it.

Python runs one thread at a time, but another one at every system call. Eight threads that all go through the steps of
snapshots at once need three times the processor time that one thread needs for the same, and the unlucky wait for many
steps of the others. One after the other they need little more than one does, and each waits for seven others at most.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
PASSED: Final = 0.002  # s for which an advisory turn is kept: some times what a step takes that waits for no disk
SLOW: Final = 4  # short turns after a long one, until which turns count as long


class _Ticket:
    """A thread that has the turn, or waits for it."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.since = 0.0  # s, when it got the turn
        self.awake = threading.Lock()
        self.awake.acquire()


class Turns:
    """The lock; a context manager. Its holder must not ask for it again."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[_Ticket] = deque()
        self._holder: _Ticket | None = None

    def __enter__(self) -> None:
        ticket = _Ticket()
        with self._guard:
            if self._holder is None:
                self._give(ticket)
                return
            self._waiting.append(ticket)
        try:
            self._wait(ticket)
        except BaseException:  # KeyboardInterrupt
            with self._guard:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
            self.leave()
            raise

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.leave()

    def leave(self) -> None:
        """Hand the turn to the thread that has waited longest; does nothing if this thread no longer has it."""
        with self._guard:
            if self._holder is None or self._holder.thread != threading.get_ident():
                return
            self._holder = None
            if self._waiting:
                self._waiting[0].awake.release()
                self._give(self._waiting.popleft())

    def _wait(self, ticket: _Ticket) -> None:
        ticket.awake.acquire()

    def _give(self, ticket: _Ticket) -> None:
        ticket.since = time.monotonic()
        self._holder = ticket


class AdvisoryTurns(Turns):
    """Advisory turns: when the holder takes long, the next thread goes on beside it.

    `is_slow` while turns take long, as on a filesystem that waits for its disk. Readers do not wait then.
    """

    def __init__(self) -> None:
        super().__init__()
        self._slow = 0  # short turns that must come before turns count as short

    @property
    def is_slow(self) -> bool:
        """Tell whether turns took long lately."""
        return bool(self._slow)

    def leave(self) -> None:
        """Hand the turn over, and note how long it took."""
        holder = self._holder
        if holder is not None and holder.thread == threading.get_ident():
            self._slow = SLOW if self._is_long(holder) else max(0, self._slow - 1)
        super().leave()

    def aside(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that may wait for the disk; if turns take long, hand the turn over before."""
        if self._slow:
            self.leave()
        return act(*args, **kwargs)

    def _wait(self, ticket: _Ticket) -> None:
        while not ticket.awake.acquire(timeout=PASSED):
            with self._guard:
                is_next = bool(self._waiting) and self._waiting[0] is ticket
                if is_next and self._holder is not None and self._is_long(self._holder):
                    self._slow = SLOW
                    self._give(self._waiting.popleft())
                    return

    def _is_long(self, holder: _Ticket) -> bool:
        return time.monotonic() - holder.since > PASSED


class HasSteps(Protocol):
    """An object with methods that are called in turn (`in_turn`)."""

    @property
    def steps(self) -> AdvisoryTurns:
        """Its turns."""


S = TypeVar("S", bound=HasSteps)


def in_turn(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Make a method wait for its turn. It may hand the turn over early, and calls no other such method before that."""

    @wraps(method)
    def called(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.steps:
            return method(self, *args, **kwargs)

    return called


def in_turn_to_read(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Make a method wait for its turn, unless turns are slow."""
    patient = in_turn(method)

    @wraps(method)
    def called(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return (method if self.steps.is_slow else patient)(self, *args, **kwargs)

    return called
