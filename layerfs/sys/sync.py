"""Syncing a whole filesystem, or the names in one directory: on disk when the call returns."""

import os
from typing import Final

from layerfs.sys.files import syncfs

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def sync_filesystem(path: bytes) -> None:
    """Return when all that was written to the filesystem of a directory is on disk (syncfs(2))."""
    fd = os.open(path, _DIRECTORY)
    try:
        syncfs(fd)
    finally:
        os.close(fd)


def sync_names(path: bytes) -> None:
    """Return when the names in a directory are on disk."""
    fd = os.open(path, _DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
