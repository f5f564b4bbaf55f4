"""Everything of one filesystem on disk."""

import os

from layerfs.sys import libc


def sync_filesystem(path: bytes) -> None:
    """Return when all that was written to the filesystem of a directory is on disk (syncfs(2))."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        libc.call("syncfs", fd)
    finally:
        os.close(fd)
