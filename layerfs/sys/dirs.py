"""Names in a directory that is held open: every access is (directory descriptor, one name).

The functions take descriptors that they do not own. A name is never resolved through a symlink: where the kernel offers
no such call, the name is pinned with O_PATH|O_NOFOLLOW first and reached through /proc/self/fd.
"""

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

from layerfs.sys import libc, target
from layerfs.sys.target import PINNED
from layerfs.sys.target import Held as Held
from layerfs.sys.target import Named as Named
from layerfs.sys.target import Target as Target
from layerfs.sys.target import follows as follows
from layerfs.sys.target import held as held
from layerfs.sys.target import path_of as path_of
from layerfs.sys.target import pinned as pinned

RENAME_NOREPLACE = 1  # linux/fs.h
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

OPENAT2 = 437  # Linux 5.6; of every architecture but alpha
RESOLVE_NO_SYMLINKS = 4  # linux/openat2.h
RESOLVE_BENEATH = 8
_OPEN_HOW = struct.Struct("=QQQ")

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOATIME

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
        return os.open(name, PINNED | os.O_DIRECTORY, dir_fd=at)


def open_regular(at: int, name: bytes, flags: int, is_expected: Callable[[os.stat_result], bool] | None = None) -> int:
    """Open a regular file, whose type is known before it is opened: opening a device or a FIFO does something.

    ESTALE for any other type, and for a file that is not the one that is expected.
    """
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    fd = os.open(name, PINNED, dir_fd=at)
    try:
        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode) or (is_expected is not None and not is_expected(st)):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), name)
        try:
            return _reopen(fd, flags)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
        return _open_same(at, name, flags, st)
    finally:
        os.close(fd)


def _reopen(fd: int, flags: int) -> int:
    """Open a pinned file without a trace in its access time, where we may."""
    try:
        return target.reopen(fd, (flags | os.O_NOATIME) & ~os.O_NOFOLLOW)
    except PermissionError:  # O_NOATIME is for the owner only
        return target.reopen(fd, flags & ~os.O_NOFOLLOW)


def _open_same(at: int, name: bytes, flags: int, st: os.stat_result) -> int:
    """Open a file by its name; ESTALE if it is another one by now. For hosts without /proc."""
    fd = os.open(name, flags, dir_fd=at)
    if os.path.samestat(os.fstat(fd), st):
        return fd
    os.close(fd)
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), name)


def open_beneath(at: int, path: bytes, flags: int) -> int:
    """Open a path of several names below a directory: no symlink is followed on it, and `..` does not lead out."""
    how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH)
    return libc.call(OPENAT2, at, path, ctypes.create_string_buffer(how, len(how)), len(how), path=path)


def is_path_only(fd: int) -> bool:
    """Tell whether a descriptor is an O_PATH one."""
    import fcntl

    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH)


def pin(at: int, name: bytes) -> int:
    """Open a name of any type as an O_PATH descriptor, which keeps its inode alive."""
    return os.open(name, PINNED, dir_fd=at)


def chmod(at: int, name: bytes, mode: int) -> None:
    """Set the mode of a name that is no symlink."""
    with pinned(at, name) as path:
        target.chmod(path, mode)


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
        mode = stat.S_IMODE(target.stat(path).st_mode)
        target.chmod(path, mode | stat.S_IWUSR)
        try:
            yield
        finally:
            target.chmod(path, mode)


@contextmanager
def unlocked(fd: int) -> Iterator[None]:
    """Let an open directory of ours be written to for a moment, whatever its mode says."""
    path = held(fd)
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    target.chmod(path, mode | stat.S_IWUSR | stat.S_IXUSR)
    try:
        yield
    finally:
        target.chmod(path, mode)


def insist(fd: int, change: Callable[[], object]) -> None:
    """Make a change of names in an open directory of ours, also where its mode forbids even us.

    `change` is called again after it failed half-way.
    """
    try:
        change()
    except PermissionError as error:
        if error.errno != errno.EACCES:
            raise
        with unlocked(fd):
            change()


def lstat_or_none(at: int, name: bytes) -> os.stat_result | None:
    """Stat a name without following it; None only when it is absent."""
    try:
        return os.lstat(name, dir_fd=at)
    except FileNotFoundError:
        return None


def xattrs(path: Target) -> list[str]:
    """List the extended attributes of a path that is not followed, or of a descriptor; none where unsupported."""
    try:
        return target.listxattr(path)
    except OSError as error:
        if error.errno in NO_XATTRS:
            return []
        raise


def getxattr_or_none(path: Target, name: str) -> bytes | None:
    """Read an extended attribute; None when it is absent or cannot exist."""
    try:
        return target.getxattr(path, name)
    except OSError as error:
        if error.errno in NO_XATTR:
            return None
        raise


def set_own_xattr(path: Target, name: str, value: bytes) -> None:
    """Set an xattr on an object of ours, also where its mode forbids even us to write it (user.* need that)."""
    at = held(path) if isinstance(path, int) else path
    try:
        target.setxattr(path, name, value)
    except PermissionError as error:
        mode = target.stat(at).st_mode
        if error.errno != errno.EACCES or stat.S_ISLNK(mode):
            raise
        target.chmod(at, stat.S_IMODE(mode) | stat.S_IWUSR)
        try:
            target.setxattr(at, name, value)
        finally:
            target.chmod(at, stat.S_IMODE(mode))


def names(fd: int) -> list[bytes]:
    """Return the names in an open directory, in the filesystem's order."""
    return [os.fsencode(name) for name in os.listdir(fd)]


def empty(fd: int) -> None:
    """Remove everything below an open directory; symlinks are removed, never followed.

    However deep the tree is, three directories are open at most: what is inside a directory of the first level comes
    up to that level, to a name that is free there, before its own turn.
    """
    todo, spare = names(fd), count()
    while todo:
        name = todo.pop()
        if _remove_plain(fd, name):
            continue
        with _entered(fd, name) as inside:
            todo += [raised for each in names(inside) if (raised := _raise(inside, each, fd, spare)) is not None]
        os.rmdir(name, dir_fd=fd)


def remove(at: int, name: bytes) -> None:
    """Remove a name and, if it is a directory, all below it; absent is fine."""
    if not _remove_plain(at, name):
        with _entered(at, name) as inside:
            empty(inside)
        os.rmdir(name, dir_fd=at)


def _remove_plain(at: int, name: bytes) -> bool:
    """Remove what is no directory, or an empty one; False if there is something in it."""
    try:
        os.unlink(name, dir_fd=at)
    except FileNotFoundError:
        return True
    except (IsADirectoryError, PermissionError):
        try:
            os.rmdir(name, dir_fd=at)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return False
    return True


@contextmanager
def _entered(at: int, name: bytes) -> Iterator[int]:
    """Open a directory that is to be emptied, whatever its mode says."""
    fd = pin(at, name)
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
        target.chmod(held(fd), 0o700)
        inside = os.open(b".", _DIRECTORY & ~os.O_NOATIME, dir_fd=fd)
    finally:
        os.close(fd)
    try:
        yield inside
    finally:
        os.close(inside)


def _raise(inside: int, name: bytes, to: int, spare: Iterator[int]) -> bytes | None:
    """Remove a name; a directory that is not empty becomes one of `to`, and its name there is returned."""
    if _remove_plain(inside, name):
        return None
    while True:
        new = b"%d" % next(spare)
        try:
            move(inside, name, to, new, RENAME_NOREPLACE)
            return new
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        if lstat_or_none(to, new) is None:  # a filesystem without RENAME_NOREPLACE
            move(inside, name, to, new)
            return new


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Create files under a caller's umask, so that the kernel weighs it against default ACLs."""
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)
