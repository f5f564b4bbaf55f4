"""A temporary directory to mount at; one that a killed process left is removed by the next process.

The directory is locked while its mount lasts (processes forked from its owner hold the lock too). Removing one that is
in use would unmount it: rmdir(2) detaches what other mount namespaces have mounted there.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PREFIX = b"layerfs-run-"


@contextmanager
def scratch_directory() -> Iterator[bytes]:
    """Yield a new directory, empty and locked; it is removed at the end, and abandoned ones are on the way."""
    base = tempfile.gettempdirb()
    sweep(base)
    path, lock = _make(base)
    try:
        yield path
    finally:
        os.rmdir(path)
        os.close(lock)


def _make(base: bytes) -> tuple[bytes, int]:
    """Make and lock a directory, again if a sweeper came between the two."""
    while True:
        path = tempfile.mkdtemp(prefix=_PREFIX, dir=base)
        with suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock).st_nlink:
                return path, lock
            os.close(lock)


def sweep(base: bytes) -> None:
    """Remove the empty directories of this user that nobody has locked."""
    with os.scandir(base) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(_PREFIX)]
    for name in names:
        # Somebody else's, gone by now, or not empty and so not one of ours: none of it is our business.
        with suppress(OSError):
            _remove_unlocked(os.path.join(base, name))


def _remove_unlocked(path: bytes) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_uid == os.geteuid():
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rmdir(path)
    finally:
        os.close(fd)
