"""A file's content on its way into the image, wherever it comes from."""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator

from layerfs.pysquashfs.entries import Entry, Source
from layerfs.pysquashfs.errors import SquashfsError
from layerfs.pysquashfs.session import SLICE, Session

PIPE_CHUNK = 1 << 16  # bytes; a pipe's usual size


class Feeder:
    """Gives contents to a session, and says how many bytes they were so far."""

    def __init__(self, session: Session, on_progress: Callable[[int], object] | None) -> None:
        self._session, self._on_progress = session, on_progress
        self.done = 0

    def store(self, entry: Entry) -> int:
        """Write an entry's content and return its index.

        Raises OSError with the source's path; EBUSY if it was changed meanwhile.
        """
        self._session.begin()
        if isinstance(entry.source, int):
            self._store_descriptor(entry.source, entry)
        elif entry.source is not None:
            # Not waiting for a writer: what is no regular file is refused.
            fd = os.open(entry.source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                self._copy(fd, entry, entry.source)
            finally:
                os.close(fd)
        else:
            self._append(_pieces(entry.data))
        return self._session.end()

    def _store_descriptor(self, fd: int, entry: Entry) -> None:
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

    def _copy(self, fd: int, entry: Entry, source: Source) -> None:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", source)
        seen = entry.seen or status
        position, size = 0, seen.st_size
        if (status.st_dev, status.st_ino, status.st_size) != (seen.st_dev, seen.st_ino, size):
            raise _changed(source)
        while position < size:
            before = position
            try:
                position = self._session.copy(fd, position, size)
            except EOFError:
                raise _changed(source) from None
            except SquashfsError:
                raise
            except OSError as error:
                raise OSError(error.errno, error.strerror, source) from None
            self._count(position - before)
        if os.fstat(fd).st_size != size:
            raise _changed(source)

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


def _changed(source: Source) -> OSError:
    return OSError(errno.EBUSY, "changed while it was read", source)
