"""Adding to a package cache: concurrent adds of one content store it once, and SIGKILL at any time leaves no half.

    the source's digest -> lock incoming/SHA256.lock -> is the entry there? reused
                                                     -> else incoming/SHA256/: copy, digest of the copy, fsync;
                                                        one rename to packages/NAME/SHA256

Who waits for the lock finds the entry there. The lock ends with its holder; what was left is taken over by the next add
of the same content, or cleared away by `gc`.
"""

import errno
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Final, NamedTuple

from layerfs.errors import Corrupt, InvalidArgument, NotFound, NotReady
from layerfs.store.cache import INCOMING, PACKAGES, Cache, directory_mode
from layerfs.store.entry import FACTS, USED, CacheEntry, touch
from layerfs.sys import dirs
from layerfs.sys.copy import copy_data
from layerfs.sys.locks import in_use, lock_file
from layerfs.value import replace
from layerfs.xar.digest import Digests, both, trusted
from layerfs.xar.header import Header, read_header
from layerfs.xar.image_file import offset_of, open_image

DRAFT: Final = b".draft"
LOCK: Final = b".lock"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class Added(NamedTuple):
    """An entry, and whether it was stored now; else the cache had it already.

    While `held`, a descriptor of its file that the caller closes, is open, it is not evicted.
    """

    entry: CacheEntry
    stored: bool
    held: int


def add(cache: Cache, path: bytes, depends: Mapping[str, str] | None = None, name: bytes | None = None) -> Added:
    """Add a package to a cache, with the SHA-256 of what each of its dependencies means if that is known.

    `name` is what others call it, if that is not the file's.
    Raises InvalidArgument for what is no package, Corrupt for a bad header, NotReady for a file that changes meanwhile,
    OSError (ENOSPC and EDQUOT leave the cache as it was).
    """
    name = os.path.basename(path) if name is None else name
    if name.startswith(b"."):
        raise InvalidArgument(f"a package's name cannot begin with a dot: {os.fsdecode(name)}", "rename the file")
    source = open_image(path)
    try:
        offset = offset_of(source, path)
        header = read_header(source, path) if offset else None
        digests = both(source)
        with workplace(cache) as incoming, claim(incoming, digests.sha256):
            added = _there(cache, name, digests.sha256, depends)
            return added or _store(cache, incoming, source, _describe(cache, name, header, digests, depends))
    finally:
        os.close(source)


@contextmanager
def workplace(cache: Cache) -> Iterator[int]:
    """Open `incoming`, and make the cache's directories where they are missing, once the way to them was seen."""
    mode = directory_mode()
    with cache.opened(PACKAGES, make=mode), cache.opened(INCOMING, make=mode) as incoming:
        yield incoming


@contextmanager
def claim(incoming: int, sha256: str, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a content, by a file in `incoming` that only the owner can open.

    Raises BlockingIOError if somebody has it, and `wait` is false.
    """
    path = dirs.path_of(incoming, os.fsencode(sha256) + LOCK)
    fd = lock_file(path, wait=wait)
    try:
        yield
    finally:
        os.unlink(path)
        os.close(fd)


def _there(cache: Cache, name: bytes, sha256: str, depends: Mapping[str, str] | None) -> Added | None:
    """Return the sound entry of a content, marked as used now; None if there is none, or if it was just evicted."""
    # Corrupt: in quarantine now, so that the good one at hand takes its place. NotFound: evicted.
    with suppress(Corrupt, NotFound, FileNotFoundError):
        entry = cache.get(name, sha256)
        if entry is None:
            return None
        with ExitStack() as undo:
            held = cache.hold(entry, wait=True)
            undo.callback(os.close, held)
            cache.checked(entry)
            entry = _pin(cache, entry, depends)
            undo.pop_all()
            return Added(entry, False, held)
    return None


def _describe(
    cache: Cache, name: bytes, header: Header | None, digests: Digests, depends: Mapping[str, str] | None
) -> CacheEntry:
    return CacheEntry(
        path=cache.place(PACKAGES, name, os.fsencode(digests.sha256), name),
        version=header.version if header else "",
        uuid=header.uuid if header else "",
        size=digests.size,
        xxh3=digests.xxh3,
        sha256=digests.sha256,
        added=time.time(),
        depends=dict(depends or {}),
    )


def _store(cache: Cache, incoming: int, source: int, entry: CacheEntry) -> Added:
    """Copy a package into the cache under its lock."""
    name = os.fsencode(entry.sha256)
    dirs.remove(incoming, name)  # of one who was killed
    os.mkdir(name, 0o700, dir_fd=incoming)
    with ExitStack() as undo:
        undo.callback(dirs.remove, incoming, name)
        with opened(incoming, name) as staged:
            _copy(source, staged, entry)
        held = finish(cache, incoming, entry)
        undo.pop_all()
    with closing_on_error(held):
        cache.checked(entry)
    return Added(entry, True, held)


def finish(cache: Cache, incoming: int, entry: CacheEntry) -> int:
    """Give what is staged under an entry's SHA-256, its file whole and on disk, the entry's place, under its lock.

    Returns a descriptor that keeps it from being evicted.
    """
    name = os.fsencode(entry.sha256)
    with opened(incoming, name) as staged:
        dirs.remove(staged, FACTS)  # of one who was killed
        _write(staged, FACTS, entry.facts())
        held = in_use(staged)
        with closing_on_error(held):
            os.fchmod(staged, 0o755)  # whatever the umask is
            os.fsync(staged)
            _publish(cache, incoming, name, entry)
    return held


@contextmanager
def opened(at: int, name: bytes) -> Iterator[int]:
    """Open a directory of ours while the context lasts."""
    fd = os.open(name, _DIRECTORY, dir_fd=at)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def closing_on_error(fd: int) -> Iterator[None]:
    """Close a descriptor if the context ends by an exception."""
    try:
        yield
    except BaseException:
        os.close(fd)
        raise


def _copy(source: int, staged: int, entry: CacheEntry) -> None:
    fd = os.open(entry.name, _NEW, 0o444, dir_fd=staged)
    try:
        copy_data(source, fd, entry.size)
        if trusted(fd) != entry.sha256:
            raise NotReady(f"{os.fsdecode(entry.name)} changed while it was added", "add it again when it is finished")
        os.fchmod(fd, 0o444)  # whatever the umask is: a node's cache is for all
        os.fsync(fd)
    finally:
        os.close(fd)


def _write(directory: int, name: bytes, content: bytes) -> None:
    fd = os.open(name, _NEW, 0o644, dir_fd=directory)
    with open(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(fd, 0o644)
        os.fsync(fd)


def _publish(cache: Cache, incoming: int, name: bytes, entry: CacheEntry) -> None:
    """Give a finished entry its place.

    `gc` may remove the directory of its name, which is empty, at any time until the entry is in it; so each step goes
    through a descriptor, and what finds it removed begins anew.
    """
    while True:
        with suppress(FileNotFoundError), cache.opened(PACKAGES, entry.name, make=0o755) as shelf:
            os.rename(name, name, src_dir_fd=incoming, dst_dir_fd=shelf)
            os.fsync(shelf)
            break
        if dirs.lstat_or_none(incoming, name) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), entry.path)
    with cache.opened(PACKAGES) as packages:
        os.fsync(packages)


def _pin(cache: Cache, entry: CacheEntry, depends: Mapping[str, str] | None) -> CacheEntry:
    """Note what an entry's dependencies mean from now on."""
    if depends is None or depends == entry.depends:
        return entry
    entry = replace(entry, depends=dict(depends))
    draft = os.fsencode(entry.sha256) + DRAFT
    place = PACKAGES, entry.name, os.fsencode(entry.sha256)
    with cache.opened(INCOMING) as incoming, cache.opened(*place) as directory:
        dirs.remove(incoming, draft)
        _write(incoming, draft, entry.facts())
        os.rename(draft, FACTS, src_dir_fd=incoming, dst_dir_fd=directory)
        os.fsync(directory)
        touch(USED, directory)
    return entry
