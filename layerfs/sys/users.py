"""Tells whether a directory is in use: as a layer of a mount in any mount namespace, or by an open file."""

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

KEPT: Final = 4  # last parts of a path that are compared: in another mount namespace the first ones may differ


def is_used(path: bytes) -> bool:
    """Tell whether a directory is used by a process or a mount that we may look at; as root these are all.

    Costs a readlink for each open file of the host.
    """
    tail = b"/" + b"/".join(path.split(b"/")[-KEPT:])
    seen: set[bytes] = set()
    return any(_mounts(process, tail, seen) or _opens(process, tail) for process in _processes())


def _processes() -> Iterator[bytes]:
    for name in os.listdir(b"/proc"):
        if name.isdigit():
            yield b"/proc/" + name


def _mounts(process: bytes, tail: bytes, seen: set[bytes]) -> bool:
    """Tell whether a path with this end stands in the table of a mount namespace that was not seen yet."""
    with suppress(OSError):  # ended, or not ours
        namespace = os.readlink(process + b"/ns/mnt")
        if namespace not in seen:
            seen.add(namespace)
            with open(process + b"/mountinfo", "rb") as file:
                return any(_ends_a_word(line, tail) for line in file if tail in line)
    return False


def _ends_a_word(line: bytes, tail: bytes) -> bool:
    return any(part[:1] in (b"", b":", b",", b" ", b"\n") for part in line.split(tail)[1:])


def _opens(process: bytes, tail: bytes) -> bool:
    """Tell whether a process has the directory or something in it open, or as its working or root directory."""
    with suppress(OSError):
        for name in (*(b"fd/" + fd for fd in os.listdir(process + b"/fd")), b"cwd", b"root"):
            with suppress(OSError):
                found = os.readlink(process + b"/" + name)
                if found.endswith(tail) or tail + b"/" in found:
                    return True
    return False
