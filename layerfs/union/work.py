"""The scratch directory of an upper: locked, emptied, and marked where the kernel would mark it."""

import errno
import fcntl
import os
import time

from layerfs.errors import InvalidArgument, NotReady
from layerfs.sys import dirs, libc
from layerfs.union.state import Work

LOCK_PATIENCE = 3.0  # seconds; a server that was just unmounted needs a moment to let go
_LEFTOVER = (b"index", b"incompat")
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def open_work(path: bytes, upper: int, *, volatile: bool) -> Work:
    """Lock upper and work directory, refuse what a volatile mount left behind, and empty the scratch directory.

    Raises NotReady when another mount has them; InvalidArgument for the remains of a volatile mount and for read-only
    places.
    """
    base = os.open(path, _OPEN)
    try:
        _lock(base, f"work directory {os.fsdecode(path)}")
        _lock(upper, "upper directory")
        scratch = _open_scratch(base, path)
        try:
            _refuse_volatile(scratch, path)
            _clean(base, scratch)
            if volatile:
                _mark_volatile(scratch)
        except BaseException:
            os.close(scratch)
            raise
    except BaseException:
        os.close(base)
        raise
    return Work(base, scratch)


def _lock(fd: int, what: str) -> None:
    """Take the lock that every mount of this project holds on its directories for as long as it lives."""
    patience = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > patience:
                raise NotReady(f"{what} is in use by another mount", "unmount it, or give another directory") from None
            time.sleep(0.01)
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL):
                return  # a filesystem without locks cannot tell us
            raise


def _open_scratch(base: int, path: bytes) -> int:
    try:
        os.mkdir(b"work", 0o700, dir_fd=base)
    except FileExistsError:
        pass
    except OSError as error:
        raise InvalidArgument(
            f"work directory {os.fsdecode(path)} cannot be written: {error.strerror}", "give one that you may write"
        ) from None
    try:
        with dirs.pinned(base, b"work") as work:
            os.chmod(work, 0o700)  # kernel overlayfs leaves it 000; a foreign setgid bit would be inherited
    except PermissionError:
        raise InvalidArgument(
            f"work directory {os.fsdecode(path)} belongs to somebody else", "give a work directory of your own"
        ) from None
    return os.open(b"work", _OPEN | os.O_NOFOLLOW, dir_fd=base)


def _refuse_volatile(scratch: int, path: bytes) -> None:
    if dirs.lstat_or_none(scratch, b"incompat") is None:
        return
    if dirs.lstat_or_none(scratch, b"incompat/volatile") is not None:
        raise InvalidArgument(
            f"a volatile mount on work directory {os.fsdecode(path)} ended in a crash: its upper may be incomplete",
            "throw upper and work directory away; if you know the upper to be whole, remove work/incompat/volatile",
        )


def _clean(base: int, scratch: int) -> None:
    """Remove the leftovers of a crash or of another overlay; what no overlay made is not ours to remove."""
    for name in dirs.names(base):
        if name in _LEFTOVER or name.isdigit() or name.startswith(b"#"):
            dirs.remove(base, name)
    dirs.empty(scratch)
    for acl in ("system.posix_acl_default", "system.posix_acl_access"):
        if acl in dirs.xattrs(scratch):
            os.removexattr(scratch, acl)
    os.fchmod(scratch, 0o700)


def _mark_volatile(scratch: int) -> None:
    """Leave the mark that kernel overlayfs refuses too (overlayfs.rst, "volatile mount")."""
    os.mkdir(b"incompat", 0o700, dir_fd=scratch)
    os.mkdir(b"incompat/volatile", 0o700, dir_fd=scratch)


def end_volatile(work: Work, upper: int) -> None:
    """Make up for the syncs that a volatile mount skipped, then take its mark away: this end is no crash."""
    libc.call("syncfs", upper)
    dirs.remove(work.fd, b"incompat")
    os.fsync(work.fd)  # else a power cut brings the mark back, and the next mount takes this end for a crash
