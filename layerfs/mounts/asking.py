"""What a process that mounts says to the one that asked for it, if one did (`mounts/asked.py`).

Light to import, since each mount waits for it.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

Run = Callable[[Sequence[str]], int]  # a program's name and its arguments; returns the exit status
DECLINED: Final = b"N"
BEGUN: Final = b"A"
ENDED: Final = b"S"

_asker = -1  # the connection to the process that asked


class Decline(BaseException):
    """What is asked for must be done by the process that asks."""


def is_asked_by(connection: int) -> None:
    """Have who asked told what comes now."""
    global _asker
    _asker = connection


def asker() -> int:
    """Return the connection to the process that asked; -1 in a process that was called itself."""
    return _asker


def decline_if_asked() -> None:
    """Have the process that asked do by itself what comes now."""
    if _asker >= 0:
        raise Decline


def tell_begun() -> None:
    """Tell who asked that it cannot do by itself any more what comes now."""
    if _asker >= 0:
        os.write(_asker, BEGUN)


def tell_end(status: int) -> bool:
    """Tell who asked how it ended, and know them no more; False if nobody did."""
    if _asker < 0:
        return False
    import fcntl

    fcntl.fcntl(_asker, fcntl.F_SETFL, 0)  # their end is no signal to us any more
    with suppress(OSError):  # they have not waited
        os.write(_asker, ENDED + bytes([status & 0xFF]))
    forget_asker()
    return True


def forget_asker() -> None:
    """Have nobody told by this process."""
    global _asker
    if _asker >= 0:
        os.close(_asker)
        _asker = -1
