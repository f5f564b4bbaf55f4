"""How many descriptors this process may hold, and how much memory it keeps."""

import ctypes
import resource
import struct
from typing import Final

from layerfs.sys import libc
from layerfs.sys.files import content

_VERSION: Final = 0x20080522  # _LINUX_CAPABILITY_VERSION_3, linux/capability.h
_SETS: Final = struct.Struct("=6I")  # effective, permitted, inheritable: the lower 32 of each, then the upper
_SYS_RESOURCE: Final = 1 << 24  # CAP_SYS_RESOURCE


_soft: int | None = None  # RLIMIT_NOFILE before it was raised


def raise_open_files() -> int:
    """Raise the soft RLIMIT_NOFILE to the hard one and return it."""
    global _soft
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        _soft = soft if _soft is None else _soft
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def undo_raise() -> None:
    """Have the soft RLIMIT_NOFILE again that this process began with."""
    global _soft
    if _soft is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        _soft = None


def one_arena() -> None:
    """Have all threads share one C heap (mallopt(3), M_ARENA_MAX): one of each keeps what it ever needed."""
    libc.call("mallopt", -8, 1)


def trim_memory() -> None:
    """Give free memory of the C heap back to the system (malloc_trim(3))."""
    libc.call("malloc_trim", 0)


def lift_limits() -> None:
    """Raise the limits of a server to what the host permits; those of its parent do not matter."""
    names = ("AS", "CPU", "DATA", "FSIZE", "NPROC", "RSS")
    for limit in (getattr(resource, f"RLIMIT_{name}") for name in names):
        _lift(limit, resource.RLIM_INFINITY)
    try:
        _lift(resource.RLIMIT_NOFILE, int(content("/proc/sys/fs/nr_open")))
    except FileNotFoundError:
        raise_open_files()


def obey_quotas() -> None:
    """Give up CAP_SYS_RESOURCE, which lifts quotas, in this thread and in those that it starts.

    The limits of this process can then no longer be raised beyond the hard ones. Does nothing without it.
    """
    header, data = ctypes.create_string_buffer(struct.pack("=Ii", _VERSION, 0), 8), ctypes.create_string_buffer(24)
    libc.call("capget", header, data)
    effective, permitted, inheritable, *upper = _SETS.unpack(data.raw)
    if (effective | permitted | inheritable) & _SYS_RESOURCE:
        kept = (each & ~_SYS_RESOURCE for each in (effective, permitted, inheritable))
        libc.call("capset", header, ctypes.create_string_buffer(_SETS.pack(*kept, *upper), 24))


def _lift(limit: int, highest: int) -> None:
    """Raise a limit to the highest value, as root may, or to the hard limit."""
    _, hard = resource.getrlimit(limit)
    try:
        resource.setrlimit(limit, (highest, highest))
    except (PermissionError, ValueError):
        resource.setrlimit(limit, (hard, hard))
