"""The package cache: every content of every package once, on plain files, for a user and for a node.

    ROOT/                        a user's: $XDG_CACHE_HOME/layerfs or ~/.cache/layerfs; the node's: /var/cache/layerfs
      packages/NAME/SHA256/      an entry, put there by one rename (intake.py), so it is whole or not at all
        NAME                     the package, 0444
        .entry.json              version, uuid, size, both digests, when it was added, and for each of its DEPENDENCIES
                                 the SHA-256 of the package that it was added with, where that was asked for
        .used                    empty; its mtime is the last use
        .verified                which file was found sound, and since which boot
        .layerfs-in-use          0600, flock(2): shared by the owner's processes that use the package
      incoming/                  what is being added or removed, locked meanwhile; `gc` clears it (eviction.py)
      quarantine/                entries that were found corrupt, for a look at them until the next `gc`
      verified/SHA256            as .verified, of the node's entries, which users cannot write to

The key is name and content; the version is part of the content. LAYERFS_CACHE names one cache to use alone. Else users
search their own, then the node's.

Whoever can write to a cache chooses what its users run. So a cache is used only if every step of the way to it, the
directories in it and the entry belong to root or the user, and nobody else can write to them (`layerfs.sys.trust`).
Directories are opened step by step, and what was looked at is what is used. Nothing is made before that.

An entry is read whole and compared with its XXH3-128 at its first use after each boot, and again whenever its inode,
size, mtime or ctime is not what it was (nobody can set a ctime). `verify` compares the SHA-256, which names the entry.
What does not fit is never served: it is moved to quarantine and refused.

`gc` evicts no entry that a process of the owner's uses. Another user's server goes on with the file that it has open.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final, NoReturn

from layerfs.errors import Corrupt, InvalidArgument, NotFound
from layerfs.store.entry import FACTS, SOUND, USED, CacheEntry, is_ours, read_entry, read_small, stamp, touch, unsafe
from layerfs.sys import locks, trust
from layerfs.sys.namespaces import in_user_namespace
from layerfs.sys.reach import see_that_they_answer

NODE: Final = b"/var/cache/layerfs"
VARIABLE: Final = b"LAYERFS_CACHE"
PACKAGES: Final = b"packages"
INCOMING: Final = b"incoming"
QUARANTINE: Final = b"quarantine"
VERIFIED: Final = b"verified"
_HEX: Final = frozenset(b"0123456789abcdef")
_DIGITS: Final = 64  # of a SHA-256, hexadecimal
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOTE: Final = 4096  # bytes; a note is a line
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Cache:
    """One cache; nothing of it need be there yet. Every method raises OSError."""

    def __init__(self, root: bytes) -> None:
        self.root = root

    @classmethod
    def own(cls) -> "Cache":
        """Return the cache to which this process adds; InvalidArgument where it has none."""
        own = cls.all()[0]
        if own.root == NODE and os.geteuid() != 0:
            name = os.fsdecode(VARIABLE)
            raise InvalidArgument("this user has no home, and so no cache", f"set {name} to a directory")
        return own

    @classmethod
    def all(cls) -> "list[Cache]":
        """Return the caches to search, in order. Raises NotReady if the filesystem of one does not answer."""
        caches = cls._all()
        see_that_they_answer(cache.root for cache in caches)
        return caches

    @classmethod
    def _all(cls) -> "list[Cache]":
        chosen = os.environb.get(VARIABLE)
        if chosen:
            return [cls(os.path.join(os.getcwdb(), chosen))]
        node = cls(NODE)
        if os.geteuid() == 0 and not in_user_namespace():
            return [node]
        base = os.environb.get(b"XDG_CACHE_HOME", b"")
        if not base.startswith(b"/"):  # relative ones are to be ignored (XDG Base Directory Specification)
            home = os.path.expanduser(b"~")
            if not home.startswith(b"/"):  # no HOME, and nobody by this number: only the node's is there
                return [node]
            base = os.path.join(home, b".cache")
        return [cls(os.path.join(base, b"layerfs")), node]

    def place(self, *names: bytes) -> bytes:
        """Return a path in the cache."""
        return os.path.join(self.root, *names)

    @contextmanager
    def opened(self, *names: bytes, make: int | None = None) -> Iterator[int]:
        """Open a directory of the cache while the context lasts, each step on the way seen before the next.

        With `make` what is missing is made with this mode. Raises FileNotFoundError, also where another user's cache
        is closed to us: it has nothing for us then; InvalidArgument if others can write to a step.
        """
        with ExitStack() as closing:
            try:
                at = self._open_root(make)
                closing.callback(os.close, at)
                for depth, name in enumerate(names, 1):
                    at = _step(at, name, self.place(*names[:depth]), make)
                    closing.callback(os.close, at)
            except PermissionError as error:
                if make is not None or self.root == Cache._all()[0].root:
                    raise
                raise FileNotFoundError(errno.ENOENT, error.strerror, self.root) from None
            yield at

    def _open_root(self, make: int | None) -> int:
        try:
            found = trust.walk(self.root, make=make)
        except trust.Untrusted as error:
            raise unsafe(error.filename, str(error.strerror)) from None
        except NotADirectoryError as error:
            raise unsafe(error.filename, "is not a directory") from None
        try:
            return os.open(b".", _DIRECTORY, dir_fd=found.fd)
        finally:
            os.close(found.fd)

    def entries(self) -> tuple[list[CacheEntry], list[Corrupt]]:
        """Return all entries, by name and version, and a message for each directory that is no sound entry."""
        found, corrupt = [], []
        for name in self.names(PACKAGES):
            for digest in self.names(PACKAGES, name):
                try:
                    entry = self.get(name, os.fsdecode(digest))
                except Corrupt as error:
                    corrupt.append(error)
                else:
                    found += [entry] if entry else []
        return sorted(found, key=lambda entry: (entry.name, len(entry.version), entry.version, entry.added)), corrupt

    def versions(self, name: bytes) -> list[CacheEntry]:
        """Return the entries of one name. Raises Corrupt, InvalidArgument as `get`."""
        found = (self.get(name, os.fsdecode(digest)) for digest in self.names(PACKAGES, name))
        return [entry for entry in found if entry]

    def get(self, name: bytes, sha256: str) -> CacheEntry | None:
        """Return an entry without reading its content; None if there is none. `hold` keeps it from vanishing.

        Raises InvalidArgument if others can write to it, Corrupt if what it says of itself cannot be read.
        """
        place = PACKAGES, name, os.fsencode(sha256)
        why = f"{os.fsdecode(FACTS)} is missing"
        for _ in range(2):  # it may have come between two looks, which a second pair of looks tells
            with ExitStack() as closing:
                try:
                    directory = closing.enter_context(self.opened(*place))
                except FileNotFoundError:
                    return None
                try:
                    return read_entry(directory, self.place(*place, name), sha256)
                except FileNotFoundError:
                    continue
                except (OSError, ValueError) as error:
                    why = f"{os.fsdecode(FACTS)} cannot be read: {error}"
                    break
        self.condemn(self.place(*place), why)

    def entry_at(self, path: bytes) -> CacheEntry | None:
        """Return the entry that a path leads to; None for one that leads elsewhere."""
        shelf = os.path.join(os.path.realpath(self.root), PACKAGES, b"")
        real = os.path.realpath(path)
        name, _, digest = os.path.dirname(real).removeprefix(shelf).partition(b"/")
        if real != os.path.join(shelf, name, digest, name) or len(digest) != _DIGITS or not _HEX.issuperset(digest):
            return None
        return self.get(name, os.fsdecode(digest))

    def hold(self, entry: CacheEntry, *, wait: bool = False) -> int:
        """Return a descriptor that keeps `gc` from evicting an entry for as long as it is open.

        With `wait` it waits for a `gc` that is looking at the entry. In another user's cache nothing can be held: the
        descriptor is one of the file itself, which stays readable. Raises NotFound if the entry was just evicted.
        """
        gone = NotFound(f"{os.fsdecode(entry.path)} was evicted just now", "add it again")
        try:
            with self.opened(PACKAGES, entry.name, os.fsencode(entry.sha256)) as directory:
                held = locks.use(directory, wait=wait)
                if held < 0:
                    return os.open(entry.name, _FILE, dir_fd=directory)
                if not _is_at(directory, entry.directory):
                    os.close(held)
                    raise gone
                return held
        except FileNotFoundError:
            raise gone from None

    def checked(self, entry: CacheEntry) -> bytes:
        """Return an entry's path, once its content is known to be sound, and record the use. Raises Corrupt."""
        with self._opened_entry(entry) as (directory, fd):
            now = stamp(os.fstat(fd))
            if not self._is_remembered(entry, directory, now):
                self._examine(entry, fd, whole=False)
                self._remember(entry, directory, now)
            touch(USED, directory)
        return entry.path

    def verify(self, entry: CacheEntry) -> None:
        """Compare an entry with the SHA-256 that names it; Corrupt, and it is in quarantine, where it differs."""
        with self._opened_entry(entry, os.O_NOATIME) as (directory, fd):  # looking is no use
            self._examine(entry, fd, whole=True)
            self._remember(entry, directory, stamp(os.fstat(fd)))

    def remember(self, entry: CacheEntry) -> None:
        """Note that an entry is sound, since its content was digested as it was written, and record the use."""
        with self._opened_entry(entry) as (directory, fd):
            self._remember(entry, directory, stamp(os.fstat(fd)))
            touch(USED, directory)

    def condemn(self, directory: bytes, why: str) -> NoReturn:
        """Move an entry to quarantine if we may, and raise Corrupt."""
        name = os.fsdecode(os.path.basename(os.path.dirname(directory)))
        said = f"{name} in the cache {os.fsdecode(self.root)} is corrupt: {why}"
        try:
            aside = b"%s.%s" % (os.path.basename(directory)[:16], os.urandom(4).hex().encode())
            with self.opened(QUARANTINE, make=0o700) as quarantine:
                os.rename(directory, aside, dst_dir_fd=quarantine)
        except OSError as error:
            raise Corrupt(f"{said}; it stays there: {error.strerror}", "tell whoever may write to the cache") from None
        raise Corrupt(f"{said}; it is in {os.fsdecode(QUARANTINE)} now", "add it again: layerfs cache add FILE")

    @contextmanager
    def _opened_entry(self, entry: CacheEntry, flags: int = 0) -> Iterator[tuple[int, int]]:
        """Open an entry's directory and file. Raises FileNotFoundError if it is gone, Corrupt if only its file is."""
        with self.opened(PACKAGES, entry.name, os.fsencode(entry.sha256)) as directory:
            fd = self._open_file(entry, directory, flags)
            try:
                yield directory, fd
            finally:
                os.close(fd)

    def _open_file(self, entry: CacheEntry, directory: int, flags: int) -> int:
        try:
            return os.open(entry.name, _FILE | flags, dir_fd=directory)
        except PermissionError:  # O_NOATIME is for the owner only
            return os.open(entry.name, _FILE, dir_fd=directory)
        except OSError as error:
            if not os.path.isdir(entry.directory):  # evicted meanwhile
                raise
            self.condemn(entry.directory, f"its file cannot be opened: {error.strerror}")

    def _examine(self, entry: CacheEntry, fd: int, *, whole: bool) -> None:
        from layerfs.xar.digest import quick, trusted

        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode) or not is_ours(st):
            raise unsafe(entry.path, trust.wrong(st, {0, os.geteuid()}, sticky=False) or "is not a regular file")
        if st.st_size != entry.size:
            self.condemn(entry.directory, f"it has {st.st_size} bytes, not {entry.size}")
        if not whole and quick(fd) != entry.xxh3:
            self.condemn(entry.directory, "its content is not what was added")
        if whole and trusted(fd) != entry.sha256:
            self.condemn(entry.directory, "its SHA-256 is not that of what was added")

    def _is_remembered(self, entry: CacheEntry, directory: int, stamp: bytes) -> bool:
        if _read(SOUND, directory) == stamp:
            return True
        with self._notes() as notes:
            return notes is not None and _read(os.fsencode(entry.sha256), notes) == stamp

    def _remember(self, entry: CacheEntry, directory: int, stamp: bytes) -> None:
        """Note that a file is sound, in the entry or else in this user's own cache.

        Written in place: a torn note counts as none. Where nothing can be written, the file is read again next time.
        """
        if not _write(SOUND, directory, stamp):
            with self._notes(make=directory_mode()) as notes:
                if notes is not None:
                    _write(os.fsencode(entry.sha256), notes, stamp)

    @contextmanager
    def _notes(self, make: int | None = None) -> Iterator[int | None]:
        """Open the directory of notes on other caches' entries in this user's own cache; None in that cache itself."""
        own = Cache.all()[0]
        with ExitStack() as closing:
            notes = None
            if own.root != self.root:
                with suppress(OSError):  # not there, or not ours to make
                    notes = closing.enter_context(own.opened(VERIFIED, make=make))
            yield notes

    def names(self, *place: bytes) -> list[bytes]:
        """Return the names in a directory of the cache, without hidden ones."""
        with suppress(FileNotFoundError), self.opened(*place) as directory:
            found = map(os.fsencode, os.listdir(directory))
            return sorted(name for name in found if not name.startswith(b"."))
        return []


def directory_mode() -> int:
    """Return the mode of a cache's directories: root's are for all to read, whatever the umask is."""
    return 0o755 if os.geteuid() == 0 else 0o700


def _is_at(directory: int, path: bytes) -> bool:
    """Tell whether an open directory has not been moved away."""
    try:
        return os.path.samestat(os.fstat(directory), os.lstat(path))
    except FileNotFoundError:
        return False


def _step(at: int, name: bytes, path: bytes, make: int | None) -> int:
    """Open, and make if that is asked for, a directory in a directory of the cache that was looked at."""
    if make is not None:
        with suppress(FileExistsError):
            os.mkdir(name, make, dir_fd=at)
            os.chmod(name, make, dir_fd=at)  # whatever the umask is
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=at)
    except NotADirectoryError:  # a symlink too, since O_DIRECTORY is asked for
        raise unsafe(path, "is not a directory") from None
    why = trust.wrong(os.fstat(fd), {0, os.geteuid()}, sticky=False)
    if why:
        os.close(fd)
        raise unsafe(path, why)
    return fd


def _read(name: bytes, directory: int) -> bytes:
    with suppress(OSError):  # a note that cannot be read says nothing
        return read_small(name, directory, _NOTE)
    return b""


def _write(name: bytes, directory: int, line: bytes) -> bool:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with suppress(OSError):
        fd = os.open(name, flags, 0o644, dir_fd=directory)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)
        return True
    return False
