"""Owner, xattrs, mode and times of extracted files, as far as this user may set them."""

import errno
import os
import stat
from collections.abc import Callable
from typing import Final

from layerfs.pysquashfs import NO_XATTRS, Inode, SquashfsImage
from layerfs.pysquashfs.trail import Trail
from layerfs.sys import dirs

Note = Callable[[Trail, str], None]
UNCHANGED: Final = 0xFFFFFFFF  # (uid_t) -1: chown(2) would leave the owner as it is, and a setuid bit be root's
_PRIVILEGED: Final = stat.S_ISUID | stat.S_ISGID
_REFUSED: Final = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL)


class Metadata:
    """Gives files what their inodes say.

    `owners` insists on owners: without them, a failure. Else root sets them where it may. setuid and setgid are only
    for files whose owner was set by root: on a file of somebody else's they would lend out the wrong rights.
    """

    def __init__(self, image: SquashfsImage, owners: bool, failed: Note, waived: Note) -> None:
        self._image = image
        self._insists = owners
        self._privileged = os.geteuid() == 0
        self._failed = failed
        self._waived = waived

    def apply(self, fd: int, path: Trail, inode: Inode) -> None:
        """Set everything on an open file or directory; `path` is for notes."""
        mode = self._mode(path, inode, lambda: os.chown(fd, inode.uid, inode.gid))
        self._xattrs(path, inode, lambda key, value: os.setxattr(fd, key, value))
        os.chmod(fd, mode)
        os.utime(fd, ns=_times(inode))

    def apply_at(self, at: int, name: bytes, path: Trail, inode: Inode) -> None:
        """Set everything on a name that is not to be followed or opened: a symlink, a FIFO, a socket, a device."""

        def chown() -> None:
            os.chown(name, inode.uid, inode.gid, dir_fd=at, follow_symlinks=False)

        def setxattr(key: bytes, value: bytes) -> None:
            os.setxattr(dirs.path_of(at, name), key, value, follow_symlinks=False)

        mode = self._mode(path, inode, chown)
        self._xattrs(path, inode, setxattr)
        if not stat.S_ISLNK(inode.mode):
            dirs.chmod(at, name, mode)
        os.utime(name, ns=_times(inode), dir_fd=at, follow_symlinks=False)

    def _mode(self, path: Trail, inode: Inode, chown: Callable[[], None]) -> int:
        """Set the owner if asked to, and return the mode to set after it."""
        mode = stat.S_IMODE(inode.mode)
        if not (self._insists or self._privileged):
            return self._plain(path, mode)
        try:
            if UNCHANGED in (inode.uid, inode.gid):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            chown()
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            note = self._failed if self._insists else self._waived
            note(path, f"its owner {inode.uid}:{inode.gid} is not set: {error.strerror}")
            return self._plain(path, mode)
        return mode if self._privileged else self._plain(path, mode)

    def _plain(self, path: Trail, mode: int) -> int:
        if mode & _PRIVILEGED:
            self._waived(path, "setuid and setgid are left out")
        return mode & ~_PRIVILEGED

    def _xattrs(self, path: Trail, inode: Inode, setxattr: Callable[[bytes, bytes], None]) -> None:
        if inode.xattr == NO_XATTRS:
            return
        for key, value in self._image.xattrs(inode.ref).items():
            try:
                setxattr(key, value)
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise
                self._waived(path, f"its xattr {os.fsdecode(key)} is left out: {error.strerror}")


def _times(inode: Inode) -> tuple[int, int]:
    return inode.mtime * 1_000_000_000, inode.mtime * 1_000_000_000
