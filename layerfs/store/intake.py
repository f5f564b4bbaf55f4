"""Adding to a package cache: concurrent adds of one content store it once, and SIGKILL at any time leaves no half.

    the source's digest -> lock incoming/SHA256.lock -> is the entry there? reused
                                                     -> else incoming/SHA256/: copy, digest of the copy, fsync;
                                                        one rename to packages/NAME/SHA256

Who waits for the lock finds the entry there. The lock ends with its holder; what was left is taken over by the next add
of the same content, or cleared away by `gc`.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Final, NamedTuple

from layerfs.errors import Corrupt, InvalidArgument, NotFound, NotReady
from layerfs.store.cache import INCOMING, PACKAGES, Cache
from layerfs.store.entry import FACTS, USED, Entry, hold, touch
from layerfs.sys import dirs
from layerfs.sys.copy import copy_data
from layerfs.sys.fsmount import AT_FDCWD
from layerfs.sys.locks import lock_file
from layerfs.xar.digest import Digests, both, trusted
from layerfs.xar.header import Header, offset_of, read_header

DRAFT: Final = b".draft"
LOCK: Final = b".lock"
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class Added(NamedTuple):
    """An entry, and whether it was stored now; else the cache had it already.

    While `held`, a descriptor of its file that the caller closes, is open, it is not evicted.
    """

    entry: Entry
    stored: bool
    held: int


def add(
    cache: Cache, path: bytes, depends: Mapping[str, str] | None = None, name: bytes | None = None
) -> Added:
    """Add a package to a cache, with the SHA-256 of what each of its dependencies means if that is known.

    `name` is what others call it, if that is not the file's.
    Raises InvalidArgument for what is no package, Corrupt for a bad header, NotReady for a file that changes meanwhile,
    OSError (ENOSPC and EDQUOT leave the cache as it was).
    """
    name = os.path.basename(path) if name is None else name
    if name.startswith(b"."):
        raise InvalidArgument(f"a package's name cannot begin with a dot: {os.fsdecode(name)}", "rename the file")
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        offset = offset_of(source, path)
        header = read_header(source, path) if offset else None
        digests = both(source)
        _make(cache)
        with claim(cache, digests.sha256):
            added = _there(cache, name, digests.sha256, depends)
            return added or _store(cache, source, _describe(cache, name, header, digests, depends))
    finally:
        os.close(source)


def _make(cache: Cache) -> None:
    """Make the cache's directories, where they are missing: root's are for all to read, whatever the umask is."""
    mode = 0o755 if os.geteuid() == 0 else 0o700
    for place in (cache.root, cache.place(PACKAGES), cache.place(INCOMING)):
        with suppress(FileExistsError):
            os.makedirs(place, mode)
            os.chmod(place, mode)
    for place in (PACKAGES, INCOMING):
        cache.names(place)  # refuses a cache that others can write to


@contextmanager
def claim(cache: Cache, sha256: str, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a content in this cache. Raises BlockingIOError if somebody has it, and `wait` is false."""
    path = cache.place(INCOMING, os.fsencode(sha256) + LOCK)
    fd = lock_file(path, wait=wait)
    try:
        yield
    finally:
        os.unlink(path)
        os.close(fd)


def _there(cache: Cache, name: bytes, sha256: str, depends: Mapping[str, str] | None) -> Added | None:
    """Return the sound entry of a content, now used; None if there is none (any more)."""
    with suppress(Corrupt, NotFound):  # in quarantine now, so that the good one at hand takes its place; or evicted
        entry = cache.get(name, sha256)
        if entry is None:
            return None
        with ExitStack() as undo:
            held = hold(entry.path, wait=True)
            undo.callback(os.close, held)
            cache.checked(entry)
            entry = _pin(cache, entry, depends)
            undo.pop_all()
            return Added(entry, False, held)
    return None


def _describe(
    cache: Cache, name: bytes, header: Header | None, digests: Digests, depends: Mapping[str, str] | None
) -> Entry:
    return Entry(
        path=cache.place(PACKAGES, name, os.fsencode(digests.sha256), name),
        version=header.version if header else "",
        uuid=header.uuid if header else "",
        size=digests.size,
        xxh3=digests.xxh3,
        sha256=digests.sha256,
        added=time.time(),
        depends=dict(depends or {}),
    )


def _store(cache: Cache, source: int, entry: Entry) -> Added:
    """Copy a package into the cache under its lock."""
    staged = cache.place(INCOMING, os.fsencode(entry.sha256))
    dirs.remove(AT_FDCWD, staged)  # of one who was killed
    os.mkdir(staged, 0o755)
    with ExitStack() as undo:
        undo.callback(dirs.remove, AT_FDCWD, staged)
        path = os.path.join(staged, entry.name)
        _copy(source, path, entry)
        _write(os.path.join(staged, FACTS), entry.facts())
        _sync(staged)
        held = hold(path)
        undo.callback(os.close, held)
        _publish(cache, staged, entry)
        cache.checked(entry)
        undo.pop_all()
    return Added(entry, True, held)


def _copy(source: int, path: bytes, entry: Entry) -> None:
    fd = os.open(path, _NEW, 0o444)
    try:
        copy_data(source, fd, entry.size)
        if trusted(fd) != entry.sha256:
            raise NotReady(f"{os.fsdecode(entry.name)} changed while it was added", "add it again when it is finished")
        os.fsync(fd)
        os.fchmod(fd, 0o444)  # whatever the umask is: a node's cache is for all
    finally:
        os.close(fd)


def _write(path: bytes, content: bytes) -> None:
    fd = os.open(path, _NEW, 0o644)
    with open(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(fd, 0o644)
        os.fsync(fd)


def _publish(cache: Cache, staged: bytes, entry: Entry) -> None:
    """Give a finished entry its place."""
    shelf = os.path.dirname(entry.directory)
    os.chmod(staged, 0o755)
    while True:
        with suppress(FileExistsError):
            os.mkdir(shelf, 0o755)
            os.chmod(shelf, 0o755)
            _sync(cache.place(PACKAGES))
        try:
            os.rename(staged, entry.directory)
        except FileNotFoundError:
            if os.path.isdir(staged):  # `gc` has just removed the shelf, which was empty
                continue
            raise
        _sync(shelf)
        return


def _pin(cache: Cache, entry: Entry, depends: Mapping[str, str] | None) -> Entry:
    """Note what an entry's dependencies mean from now on."""
    if depends is None or depends == entry.depends:
        return entry
    entry = replace(entry, depends=dict(depends))
    draft = cache.place(INCOMING, os.fsencode(entry.sha256) + DRAFT)
    with suppress(FileNotFoundError):
        os.unlink(draft)
    _write(draft, entry.facts())
    os.rename(draft, os.path.join(entry.directory, FACTS))
    _sync(entry.directory)
    touch(os.path.join(entry.directory, USED))
    return entry


def _sync(directory: bytes) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
