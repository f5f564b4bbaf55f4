"""What leaves a package cache: the least recently used beyond a bound, quarantine, and what killed processes left.

What is in use stays. A server locks the files it reads (flock, shared), so an entry that cannot be locked alone is in
use; a loop device takes no lock, but names its file in /sys; who records mounts says which files they need.
"""

import fcntl
import os
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from glob import glob
from typing import Final

from layerfs.errors import InvalidArgument
from layerfs.store.cache import INCOMING, PACKAGES, QUARANTINE, VERIFIED, Cache
from layerfs.store.entry import Entry, boot
from layerfs.store.intake import DRAFT, claim
from layerfs.sys import dirs
from layerfs.sys.fsmount import AT_FDCWD

VARIABLE: Final = "LAYERFS_CACHE_SIZE"
DEFAULT: Final = 10 << 30  # bytes; guessed
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_TRASH: Final = b"trash-"
_SWEEP: Final = "sweep"  # the lock of whoever sweeps


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did: who left, who was in use though it was their turn, leftovers removed, bytes that remain."""

    evicted: tuple[Entry, ...]
    spared: tuple[Entry, ...]
    leftovers: int
    size: int


def parse_size(text: str) -> int:
    """Return a number of bytes such as 500M or 10GiB (powers of 1024). Raises InvalidArgument."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise InvalidArgument(f'"{text}" is no size', "give bytes, or a number followed by K, M, G or T, such as 10G")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def bound() -> int:
    """Return how large a cache may be [bytes]: LAYERFS_CACHE_SIZE, or the default."""
    return parse_size(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else DEFAULT


def sweep(cache: Cache, limit: int, mounted: Collection[bytes] = ()) -> Swept:
    """Evict until at most `limit` [bytes] are left, least recently used first; `mounted` are files that must stay."""
    if not os.path.isdir(cache.place(INCOMING)):  # nothing was ever added
        return Swept((), (), 0, 0)
    used = loop_files() | set(mounted)
    evicted, spared = [], []
    with claim(cache, _SWEEP):  # two at once would remove the same leftovers
        entries, _ = cache.entries()
        size = sum(entry.size for entry in entries)
        for entry in sorted(entries, key=lambda entry: entry.used):
            if size <= limit:
                break
            if _evict(cache, entry, used):
                evicted.append(entry)
                size -= entry.size
            else:
                spared.append(entry)
        return Swept(tuple(evicted), tuple(spared), _clear(cache), size)


def _clear(cache: Cache) -> int:
    """Remove what nobody needs: quarantine, notes of earlier boots, what killed processes left; return the count."""
    removed = _clear_incoming(cache)
    for name in cache.names(QUARANTINE):
        dirs.remove(AT_FDCWD, cache.place(QUARANTINE, name))
        removed += 1
    for name in cache.names(VERIFIED):
        path = cache.place(VERIFIED, name)
        with suppress(FileNotFoundError), open(path, "rb") as file:
            if not file.read().startswith(boot()):
                os.unlink(path)
    for name in cache.names(PACKAGES):
        with suppress(OSError):  # ENOTEMPTY is the rule
            os.rmdir(cache.place(PACKAGES, name))
    return removed


def loop_files() -> set[bytes]:
    """Return the files behind this host's loop devices, by the names that the kernel shows."""
    found = set()
    for path in glob(b"/sys/block/loop*/loop/backing_file"):
        with suppress(OSError), open(path, "rb") as file:  # ENXIO: detached meanwhile
            found.add(file.read().rstrip(b"\n"))
    return found


def _alone(entry: Entry, mounted: Collection[bytes]) -> int | None:
    """Return a descriptor that holds an entry's file alone; None if somebody uses it, -1 if it is gone."""
    # By the end of its path a file is known where its cache is mounted elsewhere, in another mount namespace.
    tail = os.path.join(b"/" + PACKAGES, entry.name, os.fsencode(entry.sha256), entry.name)
    if any(path.endswith(tail) for path in mounted):
        return None
    try:
        fd = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd
    except BlockingIOError:
        os.close(fd)
        return None


def _evict(cache: Cache, entry: Entry, mounted: Collection[bytes]) -> bool:
    """Remove an entry unless it is in use: by one rename out of sight, while it is locked."""
    fd = _alone(entry, mounted)
    if fd is None:
        return False
    if fd >= 0:
        try:
            trash = cache.place(INCOMING, _TRASH + os.urandom(8).hex().encode())
            with suppress(FileNotFoundError):  # another sweep was here
                os.rename(entry.directory, trash)
                dirs.remove(AT_FDCWD, trash)
        finally:
            os.close(fd)
    return True


def _clear_incoming(cache: Cache) -> int:
    """Remove from `incoming` what nobody works at."""
    removed = 0
    names = cache.names(INCOMING)
    work = {os.fsdecode(name.split(b".")[0]) for name in names if not name.startswith(_TRASH)}
    for digest in work - {_SWEEP}:
        with suppress(BlockingIOError), claim(cache, digest, wait=False):
            for name in (os.fsencode(digest), os.fsencode(digest) + DRAFT):
                removed += os.path.lexists(cache.place(INCOMING, name))
                dirs.remove(AT_FDCWD, cache.place(INCOMING, name))
    for name in names:
        if name.startswith(_TRASH):
            dirs.remove(AT_FDCWD, cache.place(INCOMING, name))
            removed += 1
    return removed
