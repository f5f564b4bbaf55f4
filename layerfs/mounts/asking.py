"""What a process that mounts tells the process that asked it to, if one did (`mounts/asked.py`).

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
HEAD: Final = "=4I"  # (struct) umask, whether SIGHUP is ignored, bytes of words, bytes of environment
STREAMS: Final = 3  # descriptors that come with it, and after them the working directory

_asker = -1  # the connection to the process that asked


class Decline(BaseException):
    """Raised where the asking process must do by itself what it asks for."""


def is_asked_by(connection: int) -> None:
    """Note the connection to the asking process, which is told from now on how its mount goes."""
    global _asker
    _asker = connection


def asker() -> int:
    """Return the connection to the process that asked; -1 in a process that was called itself."""
    return _asker


def decline_if_asked() -> None:
    """Raise Decline if a process has asked: it must do the next step by itself."""
    if _asker >= 0:
        raise Decline


def tell_begun() -> None:
    """Tell the asking process that the mount has begun: from now on it must not mount by itself."""
    if _asker >= 0:
        os.write(_asker, BEGUN)


def tell_end(status: int) -> bool:
    """Tell the asking process the exit status, and close the connection. False if no process has asked."""
    if _asker < 0:
        return False
    import fcntl

    fcntl.fcntl(_asker, fcntl.F_SETFL, 0)  # the end of the asking process sends us no signal any more
    with suppress(OSError):  # it has not waited
        os.write(_asker, ENDED + bytes([status & 0xFF]))
    forget_asker()
    return True


def forget_asker() -> None:
    """Close the connection to the asking process: this process tells it nothing more."""
    global _asker
    if _asker >= 0:
        os.close(_asker)
        _asker = -1
