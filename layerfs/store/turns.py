"""A lock that is handed over in the order in which it was asked for, and work that is done by whoever has it.

A thread that sleeps takes as long to wake and to be given the interpreter as a whole transaction takes. So who has the
turn also does what others wait to have done, a few of them, before it goes on itself: from eight threads a transaction
then waits for the others' transactions, and for nothing else.
"""

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, TypeVar

T = TypeVar("T")
MOST: Final = 8  # of others' pieces of work that one thread does before it goes on itself


class _Waiter:
    """Who waits: for the turn, or for its work to be done, which is the same to it."""

    def __init__(self, act: Callable[[], Any] | None) -> None:
        self.act = act
        self.is_done = False
        self.result: Any = None
        self.error: Exception | None = None
        self.awake = threading.Lock()
        self.awake.acquire()


class Turns:
    """The lock; a context manager. Not to be asked for by who has it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[_Waiter] = deque()
        self._taken = False

    def do(self, act: Callable[[], T]) -> T:
        """Return what a function returns that is called when its turn comes, by this thread or another; or raise it.

        If this thread is interrupted while it waits, the function is not called, or was called to its end. If the other
        one is while it calls the function, that is called again here.
        """
        waiter = self._ask(act)
        if waiter is not None and waiter.is_done:
            if waiter.error is not None:
                raise waiter.error
            result: T = waiter.result
            return result
        try:
            return act()
        finally:
            self._serve()

    def __enter__(self) -> None:
        self._ask(None)

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._hand_over()

    def _ask(self, act: Callable[[], Any] | None) -> _Waiter | None:
        """Return with the turn, or with the work done: None if nobody had to be waited for."""
        with self._guard:
            if not self._taken:
                self._taken = True
                return None
            waiter = _Waiter(act)
            self._waiting.append(waiter)
        try:
            waiter.awake.acquire()
        except BaseException:  # KeyboardInterrupt
            with self._guard:
                if waiter in self._waiting:
                    self._waiting.remove(waiter)
                    raise
            waiter.awake.acquire()
            if not waiter.is_done:
                self._hand_over()
            raise
        return waiter

    def _serve(self) -> None:
        """Do some of what others wait for, then hand the turn over."""
        for _ in range(MOST):
            with self._guard:
                if not self._waiting or self._waiting[0].act is None:
                    break
                waiter = self._waiting.popleft()
            self._do(waiter)
        self._hand_over()

    def _do(self, waiter: _Waiter) -> None:
        """Do another's work; if this thread is interrupted, the other one has the turn and does it itself."""
        assert waiter.act is not None
        try:
            try:
                waiter.result = waiter.act()
            except Exception as error:
                waiter.error = error
            waiter.is_done = True
        finally:
            waiter.awake.release()

    def _hand_over(self) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().awake.release()
            else:
                self._taken = False
