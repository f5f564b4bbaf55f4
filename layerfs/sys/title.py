"""The words that `ps` and /proc/PID/cmdline show of this process, and its environment there (PR_SET_MM_MAP).

A process that was forked shows what its parent was started with, which is not what it does.
"""

import ctypes
import os
from collections.abc import Iterable
from functools import cache
from typing import Final

from layerfs.sys.files import content
from layerfs.sys.libc import call, libc

_PR_SET_MM: Final = 35
_PR_SET_MM_MAP: Final = 14
_NO_FILE: Final = 0xFFFFFFFF
# proc_pid_stat(5): where in /proc/PID/stat the kernel says what prctl wants to be told
_FIELDS: Final = {
    "start_code": 26, "end_code": 27, "start_data": 45, "end_data": 46, "start_brk": 47, "start_stack": 28
}  # fmt: skip
_AFTER_NAME: Final = 3
_shown: "ctypes.Array[ctypes.c_char] | None" = None  # what the kernel reads from now on
_environment: "ctypes.Array[ctypes.c_char_p] | None" = None  # what C reads from now on


class _Map(ctypes.Structure):
    """struct prctl_mm_map (linux/prctl.h)."""

    _fields_ = [
        *((name, ctypes.c_uint64) for name in "start_code end_code start_data end_data start_brk brk".split()),
        *((name, ctypes.c_uint64) for name in "start_stack arg_start arg_end env_start env_end auxv".split()),
        ("auxv_size", ctypes.c_uint32),
        ("exe_fd", ctypes.c_uint32),
    ]


def clear_environment() -> None:
    """Have no environment: also none that Python does not know of, since a library has made it."""
    os.environb.clear()
    libc.clearenv()


def give_environment(entries: Iterable[bytes]) -> None:
    """Have these entries for the whole environment, in Python and in C; what is none (NAME=VALUE) is left out.

    One by one (os.putenv) they would cost as much as the rest of a request to mount.
    """
    global _environment
    pairs = [entry.partition(b"=") for entry in entries]
    held = {name: content for name, equals, content in pairs if name and equals}
    variables: dict[bytes, bytes] = vars(os.environb)["_data"]  # which os.environ has as well
    variables.clear()
    variables.update(held)
    words = [b"%s=%s" % entry for entry in held.items()]
    block = (ctypes.c_char_p * (len(words) + 1))(*words)
    ctypes.c_void_p.in_dll(libc, "environ").value = ctypes.addressof(block)
    _environment = block


def show_words(words: list[bytes]) -> None:
    """Show other words, and an empty environment. Raises OSError where the kernel does not let us."""
    global _shown
    text = ctypes.create_string_buffer(b"".join(word + b"\0" for word in words))
    begin = ctypes.addressof(text)
    end = begin + len(text) - 1  # without the NUL of ctypes
    libc.sbrk.restype = ctypes.c_void_p
    places = _places() | {"brk": libc.sbrk(0), "arg_start": begin, "arg_end": end, "env_start": end, "env_end": end}
    wanted = _Map(**places, exe_fd=_NO_FILE)
    call("prctl", _PR_SET_MM, _PR_SET_MM_MAP, wanted, ctypes.sizeof(wanted), 0)
    _shown = text


@cache
def _places() -> dict[str, int]:
    """Return where our code, data and stack are; in a child they are at the same places."""
    fields = content("/proc/self/stat").rpartition(b")")[2].split()
    return {name: int(fields[field - _AFTER_NAME]) for name, field in _FIELDS.items()}
