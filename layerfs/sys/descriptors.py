"""Descriptors that a child, or a thread with a table of its own, must not hold."""

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

STDIO: Final = (0, 1, 2)


def close_all_but(keep: Iterable[int]) -> None:
    """Close every descriptor in this thread's table but those in `keep`.

    They are listed, since close_range(2) is missing before Linux 5.9, where closerange() would try each number.
    """
    kept = set(keep)
    for fd in map(int, os.listdir("/proc/thread-self/fd")):
        if fd not in kept:
            with suppress(OSError):  # the one that lists them
                os.close(fd)
