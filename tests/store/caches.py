"""A package cache for a test, and what is done to it there."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from layerfs.store import intake
from layerfs.store.cache import Cache
from layerfs.store.entry import CacheEntry

STEPS = ("open", "mkdir", "makedirs", "rename", "unlink", "fsync", "fchmod", "chmod", "pwrite")


def killed_at(step: int, act: Callable[[], object]) -> bool:
    """Act in a child that kills itself at its step'th system call of STEPS; tell whether it came so far.

    What opens without making anything changes nothing, and is no step.
    """
    pid = os.fork()
    if pid == 0:
        left, opening = step, os.open

        def dying(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal left
                if real is opening and not (len(arguments) > 1 and arguments[1] & os.O_CREAT):
                    return real(*arguments, **options)
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
                return real(*arguments, **options)

            return call

        for name in STEPS:
            setattr(os, name, dying(getattr(os, name)))
        try:
            act()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def take(cache: Cache, path: Path, **depends: str) -> tuple[CacheEntry, bool]:
    """Add a package; return its entry, and whether it was stored."""
    added = intake.add(cache, os.fsencode(path), depends or None)
    os.close(added.held)
    return added.entry, added.stored


def add(cache: Cache, path: Path, **depends: str) -> CacheEntry:
    return take(cache, path, **depends)[0]


def names(cache: Cache) -> list[str]:
    """Names and versions of what is there."""
    entries, corrupt = cache.entries()
    assert corrupt == []
    return [f"{os.fsdecode(entry.name).removesuffix('.xar')}{entry.version}" for entry in entries]


def incoming(cache: Cache) -> list[str]:
    return os.listdir(os.fsdecode(cache.place(b"incoming")))


def spoil(entry: CacheEntry, place: int = -1) -> None:
    """Change one byte, as a disk might; size and mtime stay."""
    os.chmod(entry.path, 0o644)
    st = os.stat(entry.path)
    with open(entry.path, "r+b") as file:
        file.seek(place, os.SEEK_END)
        file.write(b"\xff")
    os.utime(entry.path, ns=(st.st_atime_ns, st.st_mtime_ns))
