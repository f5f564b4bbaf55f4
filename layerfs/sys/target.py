"""One object, reached by a descriptor or by a name that is not followed: its attributes are read and changed here.

No function follows a symlink. Where a call has no form that takes a descriptor opened with O_PATH, the way is
/proc/self/fd/N; without /proc it is the newer call that takes an empty path (Linux 6.6 for chmod, 6.13 for xattrs,
which nothing reads of an O_PATH descriptor then: EOPNOTSUPP).
"""

import ctypes
import errno
import os
import stat as stat_bits
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from layerfs.sys import libc

AT_SYMLINK_NOFOLLOW: Final = 0x100  # linux/fcntl.h
AT_EMPTY_PATH: Final = 0x1000
FCHMODAT2: Final = 452  # of every architecture but alpha, as the four below
SETXATTRAT: Final = 463
GETXATTRAT: Final = 464
LISTXATTRAT: Final = 465
REMOVEXATTRAT: Final = 466
XATTR_MAX: Final = 65536  # bytes; XATTR_SIZE_MAX and XATTR_LIST_MAX of linux/limits.h
PINNED: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_PROC: Final = b"/proc/self/fd"


# /proc/self/fd, held open by a server. CPU time of an open with its checks: 3.7 us by it, 4.4 us by the whole path;
# of a plain open: 1.0 us.
_own_descriptors = -1


@contextmanager
def quick_ways() -> Iterator[None]:
    """Hold /proc/self/fd open while the context lasts, in this process alone: a child's is another directory."""
    global _own_descriptors
    try:
        _own_descriptors = os.open(_PROC, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        pass
    try:
        yield
    finally:
        if _own_descriptors >= 0:
            os.close(_own_descriptors)
        _own_descriptors = -1


def _be_a_child() -> None:
    """Forget the parent's /proc/self/fd; our copy of its descriptor goes with the exec, or with us."""
    global _own_descriptors
    _own_descriptors = -1


os.register_at_fork(after_in_child=_be_a_child)


class Held(bytes):
    """A path of an open descriptor, /proc/self/fd/N: it is followed to the object behind it, and no further."""

    @property
    def fd(self) -> int:
        """The descriptor."""
        return int(self[len(_PROC) + 1 :])


class Named(bytes):
    """A path of one name in a directory: the name is not followed."""

    def split_name(self) -> tuple[int, bytes]:
        """Return the directory's descriptor and the name."""
        at, name = self[len(_PROC) + 1 :].split(b"/", 1)
        return int(at), name


Target = int | Held | Named  # what calls without an *at form are given; an int is a descriptor


def held(fd: int) -> Held:
    """Return a path that reaches what a descriptor has open; unlike the descriptor, it serves where that is O_PATH."""
    return Held(b"/proc/self/fd/%d" % fd)


def path_of(at: int, name: bytes) -> Named:
    """Return a path that reaches a name of an open directory, for calls that have no *at form."""
    return Named(b"/proc/self/fd/%d/%s" % (at, name))


def follows(target: Target) -> bool:
    """Tell whether a target is to be followed: to what a descriptor has open, but never through a symlink's name."""
    return not isinstance(target, Named)


@contextmanager
def pinned(at: int, name: bytes) -> Iterator[Held]:
    """Pin a name that is no symlink and yield a path that reaches just this object."""
    fd = os.open(name, PINNED, dir_fd=at)
    try:
        if stat_bits.S_ISLNK(os.fstat(fd).st_mode):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), name)
        yield held(fd)
    finally:
        os.close(fd)


def stat(target: Target) -> os.stat_result:
    """Stat an object."""
    if isinstance(target, Named):
        at, name = target.split_name()
        return os.lstat(name, dir_fd=at)
    return os.fstat(target.fd if isinstance(target, Held) else target)


def chmod(target: Target, mode: int) -> None:
    """Set the mode of an object; EOPNOTSUPP for a symlink."""
    if isinstance(target, int):
        os.fchmod(target, mode)
        return
    if isinstance(target, Named):
        with pinned(*target.split_name()) as pin:
            chmod(pin, mode)
        return
    if _own_descriptors >= 0:
        os.chmod(b"%d" % target.fd, mode, dir_fd=_own_descriptors)
        return
    try:
        os.chmod(target, mode)
    except FileNotFoundError:
        _without_proc()
        _newer(FCHMODAT2, target.fd, b"", mode, AT_EMPTY_PATH)


def chown(target: Target, uid: int, gid: int) -> None:
    """Set the owner and group of an object; -1 leaves one as it is."""
    if isinstance(target, int):
        os.fchown(target, uid, gid)
    elif isinstance(target, Named):
        at, name = target.split_name()
        os.chown(name, uid, gid, dir_fd=at, follow_symlinks=False)
    else:
        libc.call("fchownat", target.fd, b"", uid, gid, AT_EMPTY_PATH)


def utime(target: Target, atime_ns: int, mtime_ns: int) -> None:
    """Set the times of an object [ns]."""
    if isinstance(target, Named):
        at, name = target.split_name()
        os.utime(name, ns=(atime_ns, mtime_ns), dir_fd=at, follow_symlinks=False)
        return
    try:
        os.utime(target, ns=(atime_ns, mtime_ns))
    except FileNotFoundError:
        _without_proc()
        assert isinstance(target, Held)
        libc.call("utimensat", target.fd, b"", _times(atime_ns, mtime_ns), AT_EMPTY_PATH)  # Linux 5.8


def reopen(fd: int, flags: int) -> int:
    """Open the object of a descriptor anew. Without /proc only directories can be (EOPNOTSUPP)."""
    if _own_descriptors >= 0:
        return os.open(b"%d" % fd, flags | os.O_CLOEXEC, dir_fd=_own_descriptors)
    try:
        return os.open(held(fd), flags | os.O_CLOEXEC)
    except FileNotFoundError:
        _without_proc()
    if not stat_bits.S_ISDIR(os.fstat(fd).st_mode):
        raise OSError(errno.EOPNOTSUPP, "opening a file by its descriptor needs /proc")
    return os.open(b".", flags | os.O_CLOEXEC, dir_fd=fd)


def listxattr(target: Target) -> list[str]:
    """List the names of all extended attributes."""
    try:
        return os.listxattr(target, follow_symlinks=follows(target))
    except FileNotFoundError:
        _without_proc()
    buffer = ctypes.create_string_buffer(XATTR_MAX)
    size = _newer(LISTXATTRAT, *_at(target), buffer, XATTR_MAX)
    return [os.fsdecode(name) for name in buffer.raw[:size].split(b"\0") if name]


def getxattr(target: Target, name: str) -> bytes:
    """Read an extended attribute; ENODATA if absent."""
    try:
        return os.getxattr(target, name, follow_symlinks=follows(target))
    except FileNotFoundError:
        _without_proc()
    buffer = ctypes.create_string_buffer(XATTR_MAX)
    size = _newer(GETXATTRAT, *_at(target), os.fsencode(name), _Arguments.of(buffer), ctypes.sizeof(_Arguments))
    return buffer.raw[:size]


def setxattr(target: Target, name: str, value: bytes) -> None:
    """Set an extended attribute."""
    try:
        os.setxattr(target, name, value, follow_symlinks=follows(target))
    except FileNotFoundError:
        _without_proc()
        buffer = ctypes.create_string_buffer(value, len(value))
        _newer(SETXATTRAT, *_at(target), os.fsencode(name), _Arguments.of(buffer), ctypes.sizeof(_Arguments))


def removexattr(target: Target, name: str) -> None:
    """Remove an extended attribute; ENODATA if absent."""
    try:
        os.removexattr(target, name, follow_symlinks=follows(target))
    except FileNotFoundError:
        _without_proc()
        _newer(REMOVEXATTRAT, *_at(target), os.fsencode(name))


class _Arguments(ctypes.Structure):
    """struct xattr_args (linux/xattr.h)."""

    _fields_ = (("value", ctypes.c_uint64), ("size", ctypes.c_uint32), ("flags", ctypes.c_uint32))

    @classmethod
    def of(cls, buffer: "ctypes.Array[ctypes.c_char]") -> "_Arguments":
        """Describe a value's buffer, which must live as long as this."""
        return cls(ctypes.addressof(buffer), len(buffer), 0)


def _at(target: Target) -> tuple[int, bytes, int]:
    """Return directory, name and flags, as the calls want them that take an *at form."""
    if isinstance(target, Named):
        return *target.split_name(), AT_SYMLINK_NOFOLLOW
    return target.fd if isinstance(target, Held) else target, b"", AT_EMPTY_PATH


def _newer(call: int, *arguments: libc.Argument) -> int:
    """Make a system call that older kernels lack: EOPNOTSUPP there."""
    try:
        return libc.call(call, *arguments)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EBADF):  # the latter: xattrs of what was opened with O_PATH
            raise
        raise OSError(errno.EOPNOTSUPP, "this kernel reaches an open object through /proc alone") from None


def _without_proc() -> None:
    """Raise the error that is being handled, unless it came about because there is no /proc."""
    if os.path.lexists(_PROC):
        raise


def _times(*times_ns: int) -> "ctypes.Array[ctypes.c_char]":
    """Return two struct timespec."""
    words = (word for time in times_ns for word in divmod(time, 1_000_000_000))
    return ctypes.create_string_buffer(b"".join(word.to_bytes(8, sys.byteorder, signed=True) for word in words), 32)
