"""What a process that mounts says to the one that asked for it, if one did; else it leaves a process that stands by.

Light to import, since each mount waits for it. What stands by is `mounts/standby.py`, how it is asked
`mounts/asked.py`.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

Run = Callable[[Sequence[str]], int]  # a program's name and its arguments; returns the exit status
DECLINED: Final = b"N"
BEGUN: Final = b"A"
ENDED: Final = b"S"
SWITCH: Final = b"LAYERFS_STANDBY"  # in the environment: `no` has nobody stand by, and nobody asked

_asker = -1  # the connection to who asked
_program: tuple[bytes, Run] | None = None


class Decline(BaseException):
    """What is asked for must be done by the process that asks."""


def is_asked_by(connection: int) -> None:
    """Have who asked told what comes now."""
    global _asker
    _asker = connection


def asker() -> int:
    """Return the connection to who asked; -1 if nobody did, and this process is the one that was called."""
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


def was_started_by(program: bytes, run: Run) -> None:
    """Note how this process was started: by the program that cli/program.c becomes, to do what `run` does."""
    global _program
    _program = program, run


def leave_behind() -> None:
    """Fork a process that stands by, if one could be asked; it ends at once if there is one already."""
    if _program is None or os.environb.get(SWITCH) == b"no":
        return
    try:
        child = os.fork()
    except OSError:  # no memory, no more processes
        return
    if child == 0:
        try:
            from importlib import import_module

            import_module("layerfs.mounts.standby").stand_by(*_program)  # by name: it imports this module
        finally:
            os._exit(0)
