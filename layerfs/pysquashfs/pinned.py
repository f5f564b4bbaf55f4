"""Files below a directory whose owner may exchange them meanwhile: each step is opened from the one before, no symlink.

Two directories stay open: the top, and the one that was asked for last. The way to the next one leads up by `..`, which
must be what was come down through, and down again; else it begins at the top. So a tree may be deeper than the limits
of paths and of descriptors, and to walk it takes no longer.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PIN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def held(fd: int) -> bytes:
    """Return a path of what a descriptor has open, also an O_PATH one."""
    return b"/proc/self/fd/%d" % fd


class PinnedTree:
    """A directory and what is below it; paths are relative to it, b"" is itself. Raises OSError with whole paths."""

    _top = _here = -1

    def __init__(self, top: bytes | int, *, follow: bool = True) -> None:
        """Open a directory; `follow` says whether its last name may be a symlink."""
        self.shown = held(top) if isinstance(top, int) else top
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        if isinstance(top, int):
            self._top = os.dup(top)
        else:
            self._top = os.open(top, flags if follow else flags | os.O_NOFOLLOW)
        if not os.path.exists(held(self._top)):
            raise OSError(errno.ENOSYS, "/proc is not mounted, and files are reached by it", b"/proc")
        self._return()

    def __del__(self) -> None:
        """Close what is open, except what a file that is still to be read needs."""
        for fd in (self._here, self._top):
            if fd >= 0:
                os.close(fd)

    def of(self, path: bytes) -> bytes:
        """Return a path as messages have it."""
        return os.path.join(self.shown, path) if path else self.shown

    @contextmanager
    def pinned(self, path: bytes) -> Iterator[int]:
        """Yield an O_PATH descriptor of what is there, whatever it is. FileNotFoundError, NotADirectoryError."""
        with self._named(path):
            fd = self._pin(path)
        try:
            yield fd
        finally:
            os.close(fd)

    def names(self, path: bytes) -> list[tuple[bytes, os.stat_result | None]]:
        """Return the names in a directory, sorted, with their lstat; without one if they are gone."""
        found: list[tuple[bytes, os.stat_result | None]] = []
        with self._named(path):
            fd = os.open(held(self._enter(path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with os.scandir(fd) as items:
                    found += [(os.fsencode(item.name), _status(item)) for item in items]
            finally:
                os.close(fd)
        return sorted(found, key=lambda pair: pair[0])

    def open_file(self, path: bytes) -> int:
        """Open a regular file for reading; anything else gives an O_PATH descriptor, ELOOP for a symlink."""
        with self._named(path), self.pinned(path) as fd:
            mode = os.fstat(fd).st_mode
            if stat.S_ISLNK(mode):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            return os.open(held(fd), os.O_RDONLY | os.O_CLOEXEC) if stat.S_ISREG(mode) else os.dup(fd)

    @contextmanager
    def _named(self, path: bytes) -> Iterator[None]:
        """Have errors tell the whole path."""
        try:
            yield
        except OSError as error:
            if error.filename != b"/proc":
                error.filename = self.of(path)
            raise

    def _pin(self, path: bytes) -> int:
        if not path:
            return os.dup(self._top)
        parent, _, name = path.rpartition(b"/")
        return os.open(name, _PIN, dir_fd=self._enter(parent))

    def _enter(self, path: bytes) -> int:
        """Return an O_PATH descriptor of a directory, good until the next call."""
        names = path.split(b"/") if path else []
        common = _common(names, self._names)
        if common * 2 < len(self._names):
            self._return()
        while len(self._names) > common:
            self._rise()
        for name in names[len(self._names) :]:
            self._go(os.open(name, _STEP, dir_fd=self._here))
            self._names.append(name)
            self._came.append(_identity(self._here))
        return self._here

    def _rise(self) -> None:
        """Go up one step, or to the top where that is not what was come down through: the directory was moved."""
        try:
            above = os.open(b"..", _STEP, dir_fd=self._here)
        except OSError:
            return self._return()
        self._go(above)
        if _identity(above) != self._came[-2]:
            return self._return()
        del self._names[-1], self._came[-1]

    def _return(self) -> None:
        """Be at the top."""
        self._go(os.dup(self._top))
        self._names: list[bytes] = []
        self._came = [_identity(self._here)]

    def _go(self, fd: int) -> None:
        if self._here >= 0:
            os.close(self._here)
        self._here = fd


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """A file to be read, for callers that take nothing but a path (os.PathLike)."""

    tree: PinnedTree
    path: bytes

    def open(self) -> int:
        """Open it for reading, see PinnedTree.open_file."""
        return self.tree.open_file(self.path)

    def __fspath__(self) -> bytes:
        """Return what messages say."""
        return self.tree.of(self.path)


def _common(one: list[bytes], other: list[bytes]) -> int:
    """Return how many first names two ways share."""
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:  # the usual case, at C's pace
        return shorter
    return next(n for n in range(shorter) if one[n] != other[n])


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _status(item: "os.DirEntry[str]") -> os.stat_result | None:
    try:
        return item.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
