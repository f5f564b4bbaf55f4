"""The start of a process that stands by (`mounts/standby.py`), by a command that has mounted, and how it is found.

Light to import, since each mount waits for it.
"""

import os
from typing import Final

from layerfs.mounts.asking import Run

SWITCH: Final = b"LAYERFS_STANDBY"  # in the environment: `no` has nobody stand by, and nobody asked

_started: tuple[bytes, Run] | None = None


def was_started_by(program: bytes, run: Run) -> None:
    """Note what cli/program.c would start, and what whoever stands by for it does with the words that it gets."""
    global _started
    _started = program, run


def program() -> bytes | None:
    """Return the program that whoever stands by does the work of; None where nobody is to be asked."""
    return None if _started is None or os.environb.get(SWITCH) == b"no" else _started[0]


def start_standby(*, apart: bool = False) -> None:
    """Fork a process that stands by, if one could be asked; it ends at once if there is one already.

    It has imported what this process has: after the mount of a XAR also what that needed. With `apart` it is no child
    of this process, which goes on.
    """
    if _started is None or program() is None:
        return
    try:
        child = os.fork()
    except OSError:  # no memory, no more processes
        return
    if child == 0:
        try:
            if not apart or os.fork() == 0:
                from layerfs.mounts.standby import stand_by

                stand_by(*_started)
        finally:
            os._exit(0)
    if apart:
        os.waitpid(child, 0)
