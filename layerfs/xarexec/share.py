"""One mount of a XAR and all that it depends on, for all callers of a user in a mount namespace, while it is used.

    glance at the files -> the mountpoint's name -> lock -> does it answer? --+-- yes ----------------+-> hold its root,
                                                                             +-- no: mount, glance   |   unlock
                                                                                 at the files again -+

Nobody loses a mount that they were just told of: looking asks the server for statistics, which counts as use, and the
server that wants to leave does so with the lock in hand, having seen that nobody asked since. What is held open, as the
root is for `layerfs xar exec`, makes the unmount fail: it is never a lazy one.

This module is what every start of a program in a XAR costs, so it imports next to nothing. Mounting begins in begin.py.
"""

import os

from layerfs.errors import InvalidArgument
from layerfs.xarexec.home import locked
from layerfs.xarexec.xarfile import XarFile, answers, examine, mountpoint_of

TIMEOUT = 870.0  # s without use after which a mount goes, as xarexec_fuse has it
_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Shared:
    """A shared mount. `root` is an O_PATH descriptor of its root, the caller's: while it is open the mount stays.

    `fresh` when this call made the mount, `cold` when this very process did; `target` is XAREXEC_TARGET, empty where
    the XAR names none.
    """

    __slots__ = ("cold", "fresh", "path", "root", "target")

    def __init__(self, path: bytes, xar: XarFile, *, fresh: bool, cold: bool = False) -> None:
        self.path = path
        self.target = xar.values.get(b"XAREXEC_TARGET", b"")
        self.fresh = fresh
        self.cold = cold
        self.root = os.open(path, _ROOT)


def mount(file: bytes, timeout: float = TIMEOUT, *, to_run: bool = False) -> Shared:
    """Return the mount of a XAR, made if none answers; a new one goes after `timeout` [s] without use, 0 for never.

    Raises what `examine`, `place` and launching raise; InvalidArgument, before anything is mounted, for a XAR without a
    target that is `to_run`.
    """
    anew = False
    while True:
        xar = examine(file, anew=anew)
        if to_run and not xar.values.get(b"XAREXEC_TARGET"):
            text = f"{os.fsdecode(file)} names no XAREXEC_TARGET, so there is nothing to run"
            raise InvalidArgument(text, "layerfs xar ls FILE shows what is in it, layerfs xar mount FILE mounts it")
        path = mountpoint_of(xar)
        with locked(path) as lock:
            if answers(path):
                return Shared(path, xar, fresh=False)
            from layerfs.xarexec.begin import Maker, mount_anew

            maker = mount_anew(file, xar, path, timeout, lock)
            if maker is not None:
                return Shared(path, xar, fresh=True, cold=maker is Maker.OURSELVES)
        anew = True
