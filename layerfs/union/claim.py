"""The claim on a mounted upper: an xattr of the upper itself, which only those who may write to it can set.

It names the process that has the upper (`ProcessId`). It is obeyed while that process lasts: what
a crash left is in nobody's way. Any user's mount and any driver's is seen by it; a file in the user's own runtime
directory, which `work` locks, is for uppers that carry no xattrs. Whoever may write to the upper can forge it, and
could as well mount it.
"""

import fcntl
import os
import time
from contextlib import suppress
from typing import Final

from layerfs.sys import dirs
from layerfs.sys.process_id import ProcessId, own_process, parse

CLAIM: Final = "user.overlay.layerfs.mount"  # user.*, which every user reads; private, so not seen in the mount
_PATIENCE: Final = 0.2  # s; a reader's flock(2) on the upper may cost that much, and two mounts at once their order


def holder(upper: int) -> ProcessId | None:
    """Return the process that has an upper mounted, if it is another one than this."""
    found = parse(dirs.getxattr_or_none(upper, CLAIM) or b"")
    return found if found is not None and found != own_process() and found.lasts else None


def claim(upper: int) -> bool:
    """Note that this process has an upper, an open directory; False if another one has it, which lasts.

    True where the upper carries no such xattr, or is not ours to write to: then nothing can be known.
    """
    own = own_process().spell()
    try:
        os.setxattr(upper, CLAIM, own, os.XATTR_CREATE)
        return True
    except FileExistsError:
        pass
    except OSError:
        return True
    _lock_for_a_moment(upper)
    try:
        if holder(upper) is not None:
            return False
        with suppress(OSError):
            os.setxattr(upper, CLAIM, own)
        return True
    finally:
        with suppress(OSError):
            fcntl.flock(upper, fcntl.LOCK_UN)


def renew(upper: int) -> None:
    """Take over the claim of this process's parent on an upper."""
    with suppress(OSError):  # not claimed either
        os.setxattr(upper, CLAIM, own_process().spell(), os.XATTR_REPLACE)


def release(upper: int) -> None:
    """Take the claim back, unless it is another process's by now."""
    with suppress(OSError):  # none, or no xattrs
        if os.getxattr(upper, CLAIM) == own_process().spell():
            os.removexattr(upper, CLAIM)


def _lock_for_a_moment(upper: int) -> None:
    """Take turns with others who replace an old claim; the wait is short, since any reader can hold this lock."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            fcntl.flock(upper, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:
            return
