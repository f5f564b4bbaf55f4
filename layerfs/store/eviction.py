"""Eviction from a package cache: the least recently used beyond a bound, quarantine, leftovers of killed processes.

What is in use stays. The owner's processes lock what they use (`layerfs.sys.locks.use`), so an entry that cannot be
locked alone is in use; a loop device takes no lock, but names its file in /sys; who records mounts says which files
they need. Other users cannot lock anything: their servers go on with the files that they have open.
"""

import os
import re
from collections.abc import Collection
from contextlib import ExitStack, suppress
from typing import Final

from layerfs.errors import InvalidArgument
from layerfs.store.cache import INCOMING, PACKAGES, QUARANTINE, VERIFIED, Cache
from layerfs.store.entry import CacheEntry, read_small
from layerfs.store.intake import DRAFT, claim
from layerfs.store.session import boot
from layerfs.sys import dirs
from layerfs.sys.locks import unused
from layerfs.value import value

VARIABLE: Final = "LAYERFS_CACHE_SIZE"
DEFAULT: Final = 10 << 30  # bytes; guessed
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
BLOCK: Final = b"/sys/block"  # one directory for each block device of the host
_TRASH: Final = b"trash-"
_SWEEP: Final = "sweep"  # the lock of whoever sweeps


@value
class Swept:
    """What a sweep did: entries evicted, entries spared because they are in use, leftovers removed, bytes left."""

    evicted: tuple[CacheEntry, ...]
    spared: tuple[CacheEntry, ...]
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


def sweep(cache: Cache, limit: int, mounted: Collection[bytes] = (), wanted: Collection[str] = ()) -> Swept:
    """Evict until at most `limit` [bytes] are left, least recently used first.

    What must stay are the files `mounted`, and the contents `wanted` [SHA-256].
    """
    with ExitStack() as held:
        try:
            incoming = held.enter_context(cache.opened(INCOMING))
        except FileNotFoundError:  # nothing was ever added
            return Swept((), (), 0, 0)
        held.enter_context(claim(incoming, _SWEEP))  # two at once would remove the same leftovers
        used = loop_files() | set(mounted)
        evicted, spared = [], []
        entries, _ = cache.entries()
        size = sum(entry.size for entry in entries)
        for entry in sorted(entries, key=lambda entry: entry.used):
            if size <= limit:
                break
            if entry.sha256 in wanted:
                continue
            if _evict(cache, entry, used):
                evicted.append(entry)
                size -= entry.size
            else:
                spared.append(entry)
        return Swept(tuple(evicted), tuple(spared), _clear(cache), size)


def _clear(cache: Cache) -> int:
    """Remove what nobody needs: quarantine, notes of earlier boots, what killed processes left; return the count."""
    removed = _clear_incoming(cache)
    with suppress(FileNotFoundError), cache.opened(QUARANTINE) as quarantine:
        for name in dirs.names(quarantine):
            dirs.remove(quarantine, name)
            removed += 1
    with suppress(FileNotFoundError), cache.opened(VERIFIED) as notes:
        for name in dirs.names(notes):
            with suppress(OSError):
                if read_small(name, notes, len(boot())) != boot():
                    os.unlink(name, dir_fd=notes)
    with suppress(FileNotFoundError), cache.opened(PACKAGES) as packages:
        for name in dirs.names(packages):
            with suppress(OSError):  # ENOTEMPTY is the rule
                os.rmdir(name, dir_fd=packages)
    return removed


def loop_files() -> set[bytes]:
    """Return the files behind this host's loop devices, by the names that the kernel shows."""
    found: set[bytes] = set()
    names: list[bytes] = []
    with suppress(FileNotFoundError):  # no sysfs
        names = [name for name in os.listdir(BLOCK) if name.startswith(b"loop")]
    for name in names:
        with suppress(OSError), open(os.path.join(BLOCK, name, b"loop/backing_file"), "rb") as file:  # if attached
            found.add(file.read().rstrip(b"\n"))
    return found


def remove_unused(cache: Cache, *entries: CacheEntry, mounted: Collection[bytes] = ()) -> bool:
    """Remove entries unless they are in use, and tell whether all are gone."""
    mounted = loop_files() | set(mounted)
    gone = [_evict(cache, entry, mounted) for entry in entries]
    return all(gone)


def _evict(cache: Cache, entry: CacheEntry, mounted: Collection[bytes]) -> bool:
    """Remove an entry unless it is in use. One rename takes it out of sight while it is locked."""
    # By the end of its path a file is known where its cache is mounted elsewhere, in another mount namespace.
    tail = os.path.join(b"/" + PACKAGES, entry.name, os.fsencode(entry.sha256), entry.name)
    if any(path.endswith(tail) for path in mounted):
        return False
    with suppress(FileNotFoundError):  # another sweep was here, or it was condemned
        shelf = PACKAGES, entry.name
        with cache.opened(*shelf) as at, cache.opened(*shelf, os.fsencode(entry.sha256)) as directory:
            lock = unused(directory)
            if lock is None:
                return False
            try:
                _throw_away(cache, at, os.fsencode(entry.sha256))
            finally:
                os.close(lock)
    return True


def _throw_away(cache: Cache, shelf: int, name: bytes) -> None:
    trash = _TRASH + os.urandom(8).hex().encode()
    with cache.opened(INCOMING) as incoming:
        os.rename(name, trash, src_dir_fd=shelf, dst_dir_fd=incoming)
        dirs.remove(incoming, trash)


def _clear_incoming(cache: Cache) -> int:
    """Remove from `incoming` what no running add or sweep is working on."""
    removed = 0
    with cache.opened(INCOMING) as incoming:
        names = dirs.names(incoming)
        work = {os.fsdecode(name.split(b".")[0]) for name in names if not name.startswith(_TRASH)}
        for digest in work - {_SWEEP}:
            with suppress(BlockingIOError), claim(incoming, digest, wait=False):
                for name in (os.fsencode(digest), os.fsencode(digest) + DRAFT):
                    removed += dirs.lstat_or_none(incoming, name) is not None
                    dirs.remove(incoming, name)
        for name in names:
            if name.startswith(_TRASH):
                dirs.remove(incoming, name)
                removed += 1
    return removed
