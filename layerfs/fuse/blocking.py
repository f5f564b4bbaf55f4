"""What an answer does about work that takes long, in two ways: with threads beside a loop (threads.py), or here.

Answers are coroutines, and this is all that they await. So the same answers serve with a loop and without one: here
nothing is ever suspended, and a coroutine runs to its end at once (`finish`).
"""

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext
from time import perf_counter
from typing import Any, Final, Protocol, TypeVar, TypeVarTuple

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

LONG: Final = 0.02  # seconds that one request may take while nobody else is answered; guessed
WORTH: Final = 4 << 20  # bytes; to copy less takes a few milliseconds; guessed


class TooLong(Exception):
    """Raised by a request that takes long, before it changes anything: the session is to answer it instead."""


class Event(Protocol):
    """An event: some wait until another sets it."""

    def set(self) -> object:
        """Let all go on."""

    async def wait(self) -> None:
        """Return once it is set."""


class Blocking(Protocol):
    """What answers await."""

    worth: int
    """Bytes from which a copy is worth what it costs not to make it at once."""

    def run(self, function: Callable[[*Arguments], T], *args: *Arguments) -> Awaitable[T]:
        """Call a function that touches descriptors and bytes only, while others are answered if that is possible."""

    def copy(self, function: Callable[[*Arguments], T], *args: *Arguments) -> Awaitable[T]:
        """Call a function that copies much, as `run` does; a few at once."""

    def turn(self) -> Awaitable[None]:
        """Let others have a turn, in the middle of something that may begin anew: may raise TooLong."""

    def rest(self) -> Awaitable[None]:
        """Let others have a turn, in the middle of something that cannot begin anew."""

    def admit_long(self) -> None:
        """Say that something long begins, before anything is changed: may raise TooLong."""

    def is_crowded(self) -> bool:
        """Tell whether more work waits for threads than they can do."""

    def lock(self) -> AbstractAsyncContextManager[object]:
        """Return a lock."""

    def event(self) -> Event:
        """Return an event."""


class Inline:
    """Does everything at once, in the only thread; long work is left to the session, unless there will be none."""

    worth = WORTH

    def __init__(self) -> None:
        self.is_last = False  # nobody comes after us: the mount is going
        self._began = 0.0

    def begin(self, now: float) -> None:
        """Note when a request was met, on time.perf_counter's clock."""
        self._began = now

    async def run(self, function: Callable[[*Arguments], T], *args: *Arguments) -> T:
        """Call the function."""
        return function(*args)

    copy = run

    async def turn(self) -> None:
        """Go on, unless that has taken long already."""
        if perf_counter() - self._began > LONG:
            self.admit_long()

    async def rest(self) -> None:
        """Go on."""

    def admit_long(self) -> None:
        """Raise TooLong, unless the mount is about to end."""
        if not self.is_last:
            raise TooLong

    def is_crowded(self) -> bool:
        """Tell that there are no threads."""
        return True

    def lock(self) -> AbstractAsyncContextManager[object]:
        """Return a lock that is always free: one request at a time."""
        return nullcontext()

    def event(self) -> Event:
        """Return an event that nobody waits for."""
        return _Unawaited()


class _Unawaited:
    def set(self) -> None:
        """Do nothing."""

    async def wait(self) -> None:
        """Return."""


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that awaits nothing but an `Inline`, and return what it returns."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    coroutine.close()
    raise AssertionError("an answer was suspended, and there is no loop")
