"""The start of a process that stands by (`mounts/standby.py`), by a command that has mounted.

Light to import, since each mount waits for it.
"""

import os
from typing import Final

from layerfs.mounts.asking import Run

SWITCH: Final = b"LAYERFS_STANDBY"  # in the environment: `no` has nobody stand by, and nobody asked

_program: tuple[bytes, Run] | None = None


def was_started_by(program: bytes, run: Run) -> None:
    """Note how this process was started: by the program that cli/program.c becomes, to do what `run` does."""
    global _program
    _program = program, run


def start_standby() -> None:
    """Fork a process that stands by, if one could be asked; it ends at once if there is one already."""
    if _program is None or os.environb.get(SWITCH) == b"no":
        return
    try:
        child = os.fork()
    except OSError:  # no memory, no more processes
        return
    if child == 0:
        try:
            from layerfs.mounts.standby import stand_by

            stand_by(*_program)
        finally:
            os._exit(0)
