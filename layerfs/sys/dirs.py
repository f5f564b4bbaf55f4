"""Names in a directory that is held open: every access is (directory descriptor, one name).

The functions take descriptors that they do not own. A name is never resolved through a symlink: where the kernel offers
no such call, the name is pinned with O_PATH|O_NOFOLLOW first and reached through /proc/self/fd.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from layerfs.sys import libc

RENAME_NOREPLACE = 1  # linux/fs.h
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOATIME
_PINNED = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Held(bytes):
    """A path of an open descriptor, /proc/self/fd/N: it is followed to the object behind it, and no further."""


class Named(bytes):
    """A path of one name in a directory: the name is not followed."""


Target = int | Held | Named  # what calls without an *at form are given; an int is a descriptor

NO_XATTRS = frozenset((errno.EOPNOTSUPP, errno.EBADF, errno.EPERM))  # listxattr(2): there are none, nor can be
# EACCES: user.* of an object that its mode keeps us from reading, though it is ours.
NO_XATTR = NO_XATTRS | {errno.ENODATA, errno.EACCES}


def open_directory(at: int, name: bytes) -> int:
    """Open a directory for reading; where that is refused, open it as a mere path, which still serves lookups."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=at)
    except PermissionError:
        pass
    try:  # O_NOATIME is for the owner only
        return os.open(name, _DIRECTORY & ~os.O_NOATIME, dir_fd=at)
    except PermissionError:
        return os.open(name, _PINNED | os.O_DIRECTORY, dir_fd=at)


def is_path_only(fd: int) -> bool:
    """Tell whether a descriptor is an O_PATH one."""
    import fcntl

    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH)


def path_of(at: int, name: bytes) -> Named:
    """Return a path that reaches a name of an open directory, for calls that have no *at form."""
    return Named(b"/proc/self/fd/%d/%s" % (at, name))


def held(fd: int) -> Held:
    """Return a path that reaches what a descriptor has open; unlike the descriptor, it serves where that is O_PATH."""
    return Held(b"/proc/self/fd/%d" % fd)


@contextmanager
def pinned(at: int, name: bytes) -> Iterator[Held]:
    """Pin a name that is no symlink and yield a path that reaches just this object."""
    fd = os.open(name, _PINNED, dir_fd=at)
    try:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), name)
        yield held(fd)
    finally:
        os.close(fd)


def pin(at: int, name: bytes) -> int:
    """Open a name of any type as an O_PATH descriptor, which keeps its inode alive."""
    return os.open(name, _PINNED, dir_fd=at)


def chmod(at: int, name: bytes, mode: int) -> None:
    """Set the mode of a name that is no symlink."""
    with pinned(at, name) as path:
        os.chmod(path, mode)


def rename(at: int, name: bytes, to: int, new: bytes, flags: int = 0) -> None:
    """Rename with renameat2(2) flags; EINVAL where the filesystem lacks one."""
    if flags:
        libc.call("renameat2", at, name, to, new, flags)
    else:
        os.rename(name, new, src_dir_fd=at, dst_dir_fd=to)


def move(at: int, name: bytes, to: int, new: bytes, flags: int = 0) -> None:
    """Rename a directory of ours, also one whose mode forbids even us to change its `..` (rename(2), EACCES)."""
    try:
        rename(at, name, to, new, flags)
    except PermissionError:
        with _writable(at, name), _writable(to, new):
            rename(at, name, to, new, flags)


@contextmanager
def _writable(at: int, name: bytes) -> Iterator[None]:
    """Let a directory be written to for a moment; what is none, or absent, is left alone."""
    st = lstat_or_none(at, name)
    if st is None or not stat.S_ISDIR(st.st_mode):
        yield
        return
    with pinned(at, name) as path:
        os.chmod(path, stat.S_IMODE(st.st_mode) | stat.S_IWUSR)
        try:
            yield
        finally:
            os.chmod(path, stat.S_IMODE(st.st_mode))


@contextmanager
def unlocked(fd: int) -> Iterator[None]:
    """Let an open directory of ours be written to for a moment, whatever its mode says."""
    path = held(fd)
    mode = stat.S_IMODE(os.stat(path).st_mode)
    os.chmod(path, mode | stat.S_IWUSR | stat.S_IXUSR)
    try:
        yield
    finally:
        os.chmod(path, mode)


def lstat_or_none(at: int, name: bytes) -> os.stat_result | None:
    """Stat a name without following it; None only when it is absent."""
    try:
        return os.lstat(name, dir_fd=at)
    except FileNotFoundError:
        return None


def follows(target: Target) -> bool:
    """Tell whether a target is to be followed: to what a descriptor has open, but never through a symlink's name."""
    return not isinstance(target, Named)


def xattrs(path: Target) -> list[str]:
    """List the extended attributes of a path that is not followed, or of a descriptor; none where unsupported."""
    try:
        return os.listxattr(path, follow_symlinks=follows(path))
    except OSError as error:
        if error.errno in NO_XATTRS:
            return []
        raise


def getxattr_or_none(path: Target, name: str) -> bytes | None:
    """Read an extended attribute; None when it is absent or cannot exist."""
    try:
        return os.getxattr(path, name, follow_symlinks=follows(path))
    except OSError as error:
        if error.errno in NO_XATTR:
            return None
        raise


def set_own_xattr(path: Target, name: str, value: bytes) -> None:
    """Set an xattr on an object of ours, also where its mode forbids even us to write it (user.* need that)."""
    at = held(path) if isinstance(path, int) else path
    follow = follows(at)
    try:
        os.setxattr(path, name, value, follow_symlinks=follow)
    except PermissionError as error:
        mode = os.stat(at, follow_symlinks=follow).st_mode
        if error.errno != errno.EACCES or stat.S_ISLNK(mode):
            raise
        os.chmod(at, stat.S_IMODE(mode) | stat.S_IWUSR)
        try:
            os.setxattr(at, name, value, follow_symlinks=follow)
        finally:
            os.chmod(at, stat.S_IMODE(mode))


def names(fd: int) -> list[bytes]:
    """Return the names in an open directory, in the filesystem's order."""
    return [os.fsencode(name) for name in os.listdir(fd)]


def empty(fd: int) -> None:
    """Remove everything below an open directory; symlinks are removed, never followed."""
    for name in names(fd):
        remove(fd, name)


def remove(at: int, name: bytes) -> None:
    """Remove a name and, if it is a directory, all below it; absent is fine."""
    try:
        os.unlink(name, dir_fd=at)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        _remove_directory(at, name)


def _remove_directory(at: int, name: bytes) -> None:
    try:
        os.rmdir(name, dir_fd=at)
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    with pinned(at, name) as path:
        os.chmod(path, 0o700)
    fd = os.open(name, _DIRECTORY & ~os.O_NOATIME, dir_fd=at)
    try:
        empty(fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=at)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Create files under a caller's umask, so that the kernel weighs it against default ACLs."""
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)
