"""What a tree takes on disk, counted through open directories: nothing is followed, nothing but directories is opened.

`thaw_tree` goes the same way to let what was made immutable be removed, and opens regular files too.

However deep the tree is, a bounded number of directories is open: of those far above only the names of what is still to
be entered are kept, and they are reached again by `..`, which must lead to the directory that it came from.
"""

import errno
import os
import stat
import sys
from contextlib import suppress
from typing import Final, NamedTuple

from layerfs.sys import file_attr
from layerfs.sys.dirs import open_regular

KEPT: Final = 64  # open directories; a guess that real trees stay within
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK: Final = 512  # bytes; what st_blocks counts (stat(2))


class Counted(NamedTuple):
    """Bytes on disk and inodes; a file of several names counts once."""

    size: int
    inodes: int


class _Frame:
    """A directory on the way down, and what of it is still to be entered."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.identity = _identity(fd)
        self.todo: list[bytes] = []


def count_tree(path: bytes) -> Counted:
    """Count a directory and all below it on its filesystem. OSError: EAGAIN if it is moved about meanwhile."""
    return _Count(os.open(path, _DIRECTORY)).run()


def thaw_tree(path: bytes) -> None:
    """Take the flags from a directory and all below it that keep even root from removing it (chattr(1), +i and +a).

    What refuses that, and flags that a filesystem has not, are passed over.
    """
    _Thaw(os.open(path, _DIRECTORY)).run()


class _Count:
    def __init__(self, root: int) -> None:
        self._frames = [_Frame(root)]
        st = os.fstat(root)
        self._device = st.st_dev
        self._size, self._inodes = 0, 0
        self._linked: set[int] = set()
        self._add(root, b".", st)

    def run(self) -> Counted:
        try:
            self._list(self._frames[-1])
            while self._frames:
                top = self._frames[-1]
                if top.todo:
                    self._enter(top, top.todo.pop())
                else:
                    self._leave()
            return Counted(self._size, self._inodes)
        finally:
            for frame in self._frames:
                if frame.fd >= 0:
                    os.close(frame.fd)

    def _list(self, frame: _Frame) -> None:
        with os.scandir(frame.fd) as entries:
            for entry in entries:
                try:
                    st = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                self._add(frame.fd, os.fsencode(entry.name), st)
                if stat.S_ISDIR(st.st_mode) and st.st_dev == self._device:
                    frame.todo.append(os.fsencode(entry.name))

    def _add(self, at: int, name: bytes, st: os.stat_result) -> None:
        if st.st_dev != self._device:
            return
        if st.st_nlink > 1 and not stat.S_ISDIR(st.st_mode):
            if st.st_ino in self._linked:
                return
            self._linked.add(st.st_ino)
        self._size += st.st_blocks * _BLOCK
        self._inodes += 1

    def _enter(self, above: _Frame, name: bytes) -> None:
        try:
            frame = _Frame(os.open(name, _DIRECTORY, dir_fd=above.fd))
        except (FileNotFoundError, NotADirectoryError):  # removed or exchanged meanwhile
            return
        except OSError as error:
            if error.errno == errno.ELOOP:  # exchanged for a symlink
                return
            raise
        self._frames.append(frame)
        self._list(frame)
        far = len(self._frames) - KEPT
        if far > 0 and self._frames[far - 1].fd >= 0:
            os.close(self._frames[far - 1].fd)
            self._frames[far - 1].fd = -1

    def _leave(self) -> None:
        """Go back to the directory above, opened anew if it was closed."""
        frame = self._frames.pop()
        try:
            if self._frames and self._frames[-1].fd < 0:
                above = self._frames[-1]
                above.fd = os.open(b"..", _DIRECTORY, dir_fd=frame.fd)
                if _identity(above.fd) != above.identity:
                    raise OSError(errno.EAGAIN, "a directory was moved while the tree was counted")
        finally:
            os.close(frame.fd)


class _Thaw(_Count):
    def _add(self, at: int, name: bytes, st: os.stat_result) -> None:
        if st.st_dev != self._device or not (stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode)):
            return
        with suppress(OSError):
            is_file = stat.S_ISREG(st.st_mode)
            fd = open_regular(at, name, os.O_RDONLY) if is_file else os.open(name, _DIRECTORY, dir_fd=at)
            try:
                flags = int.from_bytes(file_attr.read(fd, file_attr.GETFLAGS), sys.byteorder)
                thawed = flags & ~(file_attr.IMMUTABLE | file_attr.APPEND)
                if thawed != flags:
                    file_attr.write(fd, file_attr.SETFLAGS, thawed.to_bytes(4, sys.byteorder))
            finally:
                os.close(fd)


def _identity(fd: int) -> tuple[int, int]:
    st = os.fstat(fd)
    return st.st_dev, st.st_ino
