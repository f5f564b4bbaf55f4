"""One door to the C library: call a function, or a system call by its number, and get OSError when it fails."""

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

Argument = int | bytes | None | ctypes.Array[ctypes.c_char] | ctypes.Structure


def call(function: str | int, *arguments: Argument, path: bytes | None = None) -> int:
    """Call a libc function by its name, or a system call by its number.

    A name must belong to a function that returns int and -1 with errno. Integers are passed as long (any int
    parameter takes them), bytes as NUL-terminated strings, buffers and structures by reference, None as NULL.
    Raises OSError with errno, naming `path` when there is one. ValueError for bytes with a NUL in them.
    """
    values = [_value(argument) for argument in arguments]
    if isinstance(function, int):
        result = libc.syscall(ctypes.c_long(function), *values)
    else:
        result = getattr(libc, function)(*values)
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), path)
    return int(result)


def _value(argument: Argument) -> object:
    """Return what ctypes passes in a variadic call without cutting it to 32 bits."""
    if isinstance(argument, int):
        return ctypes.c_long(argument)
    if isinstance(argument, bytes):
        if b"\0" in argument:
            raise ValueError("embedded NUL in a string for the C library")
        return ctypes.c_char_p(argument)
    if isinstance(argument, ctypes.Structure):
        return ctypes.byref(argument)
    return argument
