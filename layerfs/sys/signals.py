"""Signals that are read like data, from a descriptor (signalfd(2)), while they are blocked."""

import ctypes
import os
from collections.abc import Iterable
from typing import Final

from layerfs.sys import libc

_FLAGS: Final = os.O_CLOEXEC | os.O_NONBLOCK  # SFD_CLOEXEC, SFD_NONBLOCK (signalfd(2))
_SET: Final = 128  # bytes of glibc's sigset_t
_INFO: Final = 128  # bytes of signalfd_siginfo


def open_signals(numbers: Iterable[int]) -> int:
    """Return a descriptor that is readable while one of these signals waits for this process."""
    bits = bytearray(_SET)
    for number in numbers:
        bits[(number - 1) // 8] |= 1 << (number - 1) % 8
    return libc.call("signalfd", -1, (ctypes.c_char * _SET).from_buffer(bits), _FLAGS)


def take(fd: int) -> bool:
    """Take one signal; False if there is none."""
    try:
        return len(os.read(fd, _INFO)) == _INFO
    except BlockingIOError:
        return False
