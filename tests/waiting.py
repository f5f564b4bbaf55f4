"""Waiting for conditions and programs: one patience for all tests, long enough for a machine under load."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

PATIENCE: Final = 120.0  # s until what must happen is given up; nobody waits so long but for a failure
_PAUSE: Final = 0.005  # s

Found = TypeVar("Found")


def wait_until(
    condition: Callable[[], Found], what: str | Callable[[], str] = "a condition", patience: float = PATIENCE
) -> Found:
    """Return what a condition gives as soon as that is true; fail when it does not become so, saying `what` lacks."""
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what() if callable(what) else what}"
        time.sleep(_PAUSE)
    return found
