"""A file's content on its way into the image, wherever it comes from.

A file that changes while it is read is packed all the same, as mksquashfs does: up to the size that it had when it was
opened, or to where it ends by then. One that is gone, or no file any more, is packed empty. Both are told.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator

from layerfs.pysquashfs.errors import SquashfsError
from layerfs.pysquashfs.filespec import FileSpec, Path, Source
from layerfs.pysquashfs.pinned import PinnedFile
from layerfs.pysquashfs.session import SLICE, Session

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ESTALE)  # also: a symlink, a socket
PIPE_CHUNK = 1 << 16  # bytes; a pipe's usual size


class Feeder:
    """Feeds contents to a session; counts the bytes so far, and reports files that changed while they were read."""

    def __init__(
        self,
        session: Session,
        on_progress: Callable[[int], object] | None,
        on_changed: Callable[[bytes, str], object] | None,
    ) -> None:
        self._session, self._on_progress, self._on_changed = session, on_progress, on_changed
        self.done = 0

    def store(self, entry: FileSpec) -> int:
        """Write an entry's content and return its index. Raises OSError with the source's path."""
        self._session.begin()
        if isinstance(entry.source, int):
            self._store_descriptor(entry.source, entry)
        elif entry.source is not None:
            fd = self._open(entry, entry.source)
            if fd >= 0:
                try:
                    self._copy(fd, entry, entry.source)
                finally:
                    os.close(fd)
        else:
            self._append(_pieces(entry.data))
        return self._session.end()

    def _open(self, entry: FileSpec, source: Path) -> int:
        """Open a source; -1 if it was seen and is gone, or is something else by now."""
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # not waiting for a writer: only a regular file is read
        try:
            if isinstance(source, PinnedFile):
                return source.open()
            return os.open(source, flags if entry.seen is None else flags | os.O_NOFOLLOW)
        except OSError as error:
            if entry.seen is None or error.errno not in _GONE:
                raise
            self._tell(entry, "was gone when it was to be read: it is empty")
            return -1

    def _tell(self, entry: FileSpec, what: str) -> None:
        if self._on_changed:
            self._on_changed(entry.path, what)

    def _store_descriptor(self, fd: int, entry: FileSpec) -> None:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            self._append(iter(lambda: os.read(fd, PIPE_CHUNK), b""))
            return
        position = os.lseek(fd, 0, os.SEEK_CUR)  # looking for holes moves it
        try:
            self._copy(fd, entry, fd)
        finally:
            os.lseek(fd, position, os.SEEK_SET)

    def _append(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self._session.append(piece)
            self._count(len(piece))

    def _copy(self, fd: int, entry: FileSpec, source: Source) -> None:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            if entry.seen is None:
                raise OSError(errno.EINVAL, "not a regular file", source)
            return self._tell(entry, "was no file any more when it was to be read: it is empty")
        position, size = 0, status.st_size
        while position < size:
            before = position
            try:
                position = self._session.copy(fd, position, size)
            except EOFError:  # it became shorter
                break
            except SquashfsError:
                raise
            except OSError as error:
                raise OSError(error.errno, error.strerror, source) from None
            self._count(position - before)
        if _facts(os.fstat(fd)) != _facts(entry.seen or status):
            self._tell(entry, "changed while it was read")

    def _count(self, size: int) -> None:
        self.done += size
        if self._on_progress:
            self._on_progress(self.done)


def _pieces(data: bytes | Iterable[bytes]) -> Iterator[bytes]:
    """Content in pieces that are written in one call each."""
    if isinstance(data, str):
        raise TypeError("content is bytes, not str")
    for chunk in [data] if isinstance(data, bytes | bytearray | memoryview) else data:
        view = memoryview(chunk).cast("B")
        for start in range(0, len(view), SLICE):
            yield view[start : start + SLICE]  # type: ignore[misc]


def _facts(status: os.stat_result) -> tuple[int, int, int, int]:
    """Facts that differ between two files, and of one file before and after a change."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
