"""Every step of an operation on a store, numbered: what changes the ledger, and what changes the filesystem.

`killed_at` does something in a child that kills itself just before the step of that number, so the numbers from 0 on go
through every state that a kill can leave.
"""

import fcntl
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

from layerfs.store.ledger import Transaction
from layerfs.sys import libc

CHANGES = (
    "mkdir", "rmdir", "rename", "replace", "link", "symlink", "mknod", "unlink", "remove", "chmod", "fchmod", "chown",
    "fchown", "lchown", "setxattr", "removexattr", "utime", "truncate", "ftruncate", "write", "pwrite", "fsync",
    "fdatasync", "copy_file_range", "posix_spawn",
)  # fmt: skip
READS = ("SELECT", "PRAGMA", "WITH")


def killed_at(step: int, act: Callable[..., object], before: Callable[[], Any] | None = None) -> bool:
    """Tell whether the act came to the step; else it was done, without an exception.

    It is given what `before` returned, whose steps do not count.
    """
    pid = os.fork()
    if pid == 0:
        try:
            given = () if before is None else (before(),)
            _arm(step)
            act(*given)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0, "the act failed"
    return os.WIFSIGNALED(status)


def _arm(step: int) -> None:
    """Have every function that changes something count down to the kill."""
    left = step

    def tick() -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    def ticking(real: Callable[..., Any], is_step: Callable[..., bool] = lambda *_: True) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if is_step(*arguments):
                tick()
            return real(*arguments, **options)

        return call

    for name in CHANGES:
        setattr(os, name, ticking(getattr(os, name)))
    os.open = ticking(os.open, lambda path, flags, *_: bool(flags & os.O_CREAT))
    fcntl.ioctl = ticking(fcntl.ioctl)
    libc.call = ticking(libc.call)
    subprocess.Popen.__init__ = ticking(subprocess.Popen.__init__)  # type: ignore[method-assign]
    Transaction.many = ticking(Transaction.many)  # type: ignore[method-assign]
    Transaction.run = ticking(  # type: ignore[method-assign]
        Transaction.run, lambda _, statement, *__: not statement.lstrip().startswith(READS)
    )
