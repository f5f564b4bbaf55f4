"""The package cache: every content of every package once, on plain files, for a user and for a node.

    ROOT/                        a user's: $XDG_CACHE_HOME/layerfs or ~/.cache/layerfs; the node's: /var/cache/layerfs
      packages/NAME/SHA256/      an entry, put there by one rename (intake.py), so it is whole or not at all
        NAME                     the package, 0444
        .entry.json              version, uuid, size, both digests, when it was added, and for each of its DEPENDENCIES
                                 the SHA-256 of the package that it was added with, where that was asked for
        .used                    empty; its mtime is the last use
        .verified                which file was found sound, and since which boot
      incoming/                  what is being added or removed, locked by who does it; `gc` clears it (eviction.py)
      quarantine/                entries that were found corrupt, for a look at them until the next `gc`
      verified/SHA256            as .verified, of the node's entries, which users cannot write to

The key is name and content; the version is part of the content. LAYERFS_CACHE names one cache to use alone. Else users
search their own, then the node's. Either is used only if it, the directories in it and the entry belong to root or the
user and nobody else can write to them: whoever can write to a cache chooses what its users run.

An entry is read whole and compared with its XXH3-128 at its first use after each boot, and again whenever its inode,
size, mtime or ctime is not what it was (nobody can set a ctime). `verify` compares the SHA-256, which names the entry.
What does not fit is never served: it is moved to quarantine and refused.

A file in use is locked (flock, shared) by who serves it; `gc` evicts only what it can lock alone.
"""

import os
import stat
from contextlib import suppress
from typing import Final, NoReturn

from layerfs.errors import Corrupt, InvalidArgument
from layerfs.store.entry import FACTS, SOUND, USED, Entry, is_ours, read_entry, stamp, touch, unsafe
from layerfs.sys.namespaces import in_user_namespace

NODE: Final = b"/var/cache/layerfs"
VARIABLE: Final = b"LAYERFS_CACHE"
PACKAGES: Final = b"packages"
INCOMING: Final = b"incoming"
QUARANTINE: Final = b"quarantine"
VERIFIED: Final = b"verified"
_HEX: Final = frozenset(b"0123456789abcdef")


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
        """Return the caches to search, in order."""
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

    def entries(self) -> tuple[list[Entry], list[Corrupt]]:
        """Return all entries, by name and version, and what is said of those that are none (any more)."""
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

    def versions(self, name: bytes) -> list[Entry]:
        """Return the entries of one name. Raises Corrupt, InvalidArgument as `get`."""
        found = (self.get(name, os.fsdecode(digest)) for digest in self.names(PACKAGES, name))
        return [entry for entry in found if entry]

    def get(self, name: bytes, sha256: str) -> Entry | None:
        """Return an entry, its content unread; None if there is none. `hold` keeps it from vanishing.

        Raises InvalidArgument if others can write to it, Corrupt if what it says of itself cannot be read.
        """
        directory = self.place(PACKAGES, name, os.fsencode(sha256))
        why = f"{os.fsdecode(FACTS)} is missing"
        for _ in range(2):  # it may have come between two looks, which a second pair of looks tells
            if not self._is_safe(PACKAGES, name, os.fsencode(sha256)):
                return None
            try:
                return read_entry(os.path.join(directory, name), sha256)
            except FileNotFoundError:
                continue
            except ValueError as error:
                why = f"{os.fsdecode(FACTS)} cannot be read: {error}"
                break
        self.condemn(directory, why)

    def entry_at(self, path: bytes) -> Entry | None:
        """Return the entry that a path leads to; None for one that leads elsewhere."""
        shelf = os.path.join(os.path.realpath(self.root), PACKAGES, b"")
        real = os.path.realpath(path)
        name, _, digest = os.path.dirname(real).removeprefix(shelf).partition(b"/")
        if real != os.path.join(shelf, name, digest, name) or len(digest) != 64 or not _HEX.issuperset(digest):
            return None
        return self.get(name, os.fsdecode(digest))

    def checked(self, entry: Entry) -> bytes:
        """Return an entry's path, once its content is known to be sound, and record the use. Raises Corrupt."""
        fd = self._open(entry)
        try:
            now = stamp(os.fstat(fd))
            if not self._is_remembered(entry, now):
                self._examine(entry, fd, whole=False)
                self._remember(entry, now)
        finally:
            os.close(fd)
        touch(os.path.join(entry.directory, USED))
        return entry.path

    def verify(self, entry: Entry) -> None:
        """Compare an entry with the SHA-256 that names it; Corrupt, and it is in quarantine, where it differs."""
        fd = self._open(entry, os.O_NOATIME)  # looking is no use
        try:
            self._examine(entry, fd, whole=True)
            self._remember(entry, stamp(os.fstat(fd)))
        finally:
            os.close(fd)

    def condemn(self, directory: bytes, why: str) -> NoReturn:
        """Move an entry to quarantine if we may, and raise Corrupt."""
        name = os.fsdecode(os.path.basename(os.path.dirname(directory)))
        said = f"{name} in the cache {os.fsdecode(self.root)} is corrupt: {why}"
        try:
            os.makedirs(self.place(QUARANTINE), 0o700, exist_ok=True)
            aside = b"%s.%s" % (os.path.basename(directory)[:16], os.urandom(4).hex().encode())
            os.rename(directory, self.place(QUARANTINE, aside))
        except OSError as error:
            raise Corrupt(f"{said}; it stays there: {error.strerror}", "tell who may write to the cache") from None
        raise Corrupt(f"{said}; it is in {os.fsdecode(QUARANTINE)} now", "add it again: layerfs cache add FILE")

    def _open(self, entry: Entry, flags: int = 0) -> int:
        """Open an entry's file. Raises FileNotFoundError if the entry is gone, Corrupt if only its file is."""
        flags |= os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            return os.open(entry.path, flags)
        except PermissionError:  # O_NOATIME is for the owner only
            return os.open(entry.path, flags & ~os.O_NOATIME)
        except OSError as error:
            if not os.path.isdir(entry.directory):
                raise
            self.condemn(entry.directory, f"its file cannot be opened: {error.strerror}")

    def _examine(self, entry: Entry, fd: int, *, whole: bool) -> None:
        from layerfs.xar.digest import quick, trusted

        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode) or not is_ours(st):
            raise unsafe(entry.path)
        if st.st_size != entry.size:
            self.condemn(entry.directory, f"it has {st.st_size} bytes, not {entry.size}")
        if not whole and quick(fd) != entry.xxh3:
            self.condemn(entry.directory, "its content is not what was added")
        if whole and trusted(fd) != entry.sha256:
            self.condemn(entry.directory, "its SHA-256 is not that of what was added")

    def _is_remembered(self, entry: Entry, stamp: bytes) -> bool:
        return any(_read(path) == stamp for path in self._memories(entry))

    def _remember(self, entry: Entry, stamp: bytes) -> None:
        """Write down that a file is sound; in place, since a torn line says nothing."""
        own = Cache.own()
        if own.root != self.root:
            with suppress(OSError):
                os.makedirs(own.place(VERIFIED), 0o700, exist_ok=True)
        for path in self._memories(entry):
            with suppress(OSError):  # read-only or another's: it is read again next time
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
                with open(fd, "wb") as file:
                    file.write(stamp)
                return

    def _memories(self, entry: Entry) -> list[bytes]:
        """Return where it may be written that an entry is sound: at the entry, else in this user's own cache."""
        own = Cache.own()
        found = [os.path.join(entry.directory, SOUND)]
        if own.root != self.root and own._is_safe(VERIFIED):
            found.append(own.place(VERIFIED, os.fsencode(entry.sha256)))
        return found

    def names(self, *place: bytes) -> list[bytes]:
        """Return the names in a directory of the cache, without hidden ones."""
        if not self._is_safe(*place):
            return []
        with suppress(FileNotFoundError):
            return sorted(name for name in os.listdir(self.place(*place)) if not name.startswith(b"."))
        return []

    def _is_safe(self, *place: bytes) -> bool:
        """Tell whether a directory of the cache is there. Raises InvalidArgument if others can write on the way."""
        for depth in range(len(place) + 1):
            path = self.place(*place[:depth])
            try:
                st = os.stat(path, follow_symlinks=depth == 0)  # the root may be a link of its owner's
            except FileNotFoundError:
                return False
            if not stat.S_ISDIR(st.st_mode) or not is_ours(st):
                raise unsafe(path)
        return True


def _read(path: bytes) -> bytes:
    with suppress(OSError), open(path, "rb") as file:  # a note that cannot be read says nothing
        return file.read()
    return b""
