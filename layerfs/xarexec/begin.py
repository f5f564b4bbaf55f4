"""The beginning of a shared mount: by a process that stands by, where there is one, else by the first caller itself.

    caller, lock in hand --+-- asks: the child of who stands by mounts and serves (`mount_for_another` in serve.py)
                           +-- nobody does: imports all that mounts, mounts, forks a server

Who was asked gets the lock in the place of stdin, and so has it until the mount is recorded, as a forked server has. It
mounts only the very files that we have seen. If it does not, for whatever reason, it leaves nothing, and we mount, and
hear what is wrong, by ourselves.
"""

import os
from contextlib import ExitStack
from enum import Enum

from layerfs.mounts.standby_client import ask
from layerfs.xarexec import SERVER
from layerfs.xarexec.home import remove_mountpoint
from layerfs.xarexec.memo import spell
from layerfs.xarexec.xarfile import XarFile, answers, examine

MOUNTED = 0
_OURS_ALONE = (b"/proc/", b"/dev/fd", b"/dev/std")  # in a path: as program.c has it


class Maker(Enum):
    """Who made a mount."""

    OURSELVES = "this process"
    OTHER = "a process that stood by"


def mount_anew(file: bytes, xar: XarFile, path: bytes, timeout: float, lock: int) -> Maker | None:
    """Mount a XAR at `path`, whose lock the caller holds, served until `timeout` [s] have passed without use.

    None, with nothing left, if a file changed meanwhile: nobody knows then what would be shown. Raises LayerfsError.
    """
    with ExitStack() as undo:
        undo.callback(_take_away, path)  # nobody was told of it yet
        maker = Maker.OTHER if _is_mounted_for_us(xar, path, timeout, lock) else _mount_here(file, xar, path, timeout)
        if maker is not None and xar.is_same(examine(file)):
            undo.pop_all()
            return maker
    return None


def _is_mounted_for_us(xar: XarFile, path: bytes, timeout: float, lock: int) -> bool:
    """Ask who stands by to mount and serve; False if it did not."""
    lowers = xar.members.lowers
    if any(word in lower for word in _OURS_ALONE for lower in lowers):
        return False
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)  # nobody is to wait for the end of our streams, if it hangs
    try:
        words = (SERVER.encode(), path, b"%r" % timeout, spell(*xar.members.stamps), *lowers)
        status = ask(words, (lock, null, null))
    finally:
        os.close(null)
    if status is None or status == MOUNTED:
        return status == MOUNTED
    return answers(path)  # what it has left, if it was killed, goes


def _mount_here(file: bytes, xar: XarFile, path: bytes, timeout: float) -> Maker | None:
    from layerfs.xarexec.serve import mount_here

    return Maker.OURSELVES if mount_here(file, xar.members.lowers, path, timeout) else None


def _take_away(path: bytes) -> None:
    if answers(path):
        from layerfs.sys.mounts import unmount

        unmount(path, lazy=True)
    remove_mountpoint(path)
