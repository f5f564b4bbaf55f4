"""The configuration of a FUSE server; light to import, because each mount waits for it."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Final

from layerfs.value import value

if TYPE_CHECKING:
    from signal import Signals


SYNCS: Final = b"layerfs-syncs"  # the name of a server that brings to disk what was written, as the last thing it does


def ending_signals() -> "frozenset[Signals | int]":
    """Return the signals that tell a server to end: all that would kill it, but SIGKILL and those that report a fault.

    A SIGHUP that whoever started us has ignored (nohup) stays ignored.
    """
    import signal  # half a millisecond, which a mount by the kernel need not wait for

    return _ending_signals(signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN)


@cache
def _ending_signals(hangup: bool) -> "frozenset[Signals | int]":
    """Return the signals; to make them members of an enumeration takes longer than the rest."""
    import signal

    others = {"KILL", "STOP", "ILL", "TRAP", "ABRT", "BUS", "FPE", "SEGV", "SYS"}  # cannot be held, or report a fault
    others |= {"CHLD", "CONT", "URG", "WINCH", "TSTP", "TTIN", "TTOU"}  # do not end a process
    others |= {"PIPE", "XFSZ"}  # ignored by Python: the call says EPIPE and EFBIG
    if not hangup:
        others.add("HUP")
    return frozenset(signal.valid_signals() - {getattr(signal, f"SIG{name}") for name in others})


def hold_signals() -> None:
    """Have what would end the server wait until it can unmount; until then it would leave a mount that is dead."""
    import signal

    signal.pthread_sigmask(signal.SIG_BLOCK, ending_signals())


@value
class Idle:
    """Have a server leave after `seconds` without a request.

    `leave` unmounts and returns True, or returns False where the mount is in use. It is given a function that tells
    whether there was no request since it was called; it asks that last, and unmounts only if so. It is called in a
    thread while requests are answered, since unmounting makes some.
    """

    seconds: float
    leave: Callable[[Callable[[], bool]], bool]


@value
class ServeConfig:
    """What the server must know beside its union; without `idle` it stays until it is unmounted."""

    mountpoint: bytes
    read_only: bool = False
    sync: bool = False  # as mount(8) has them
    dirsync: bool = False
    debug: bool = False
    lane: bool = True  # answer natively what can be
    idle: Idle | None = None
