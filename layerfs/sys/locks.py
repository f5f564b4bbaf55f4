"""flock(2): lock files that go with their last holder, those that say that the file beside them is in use.

Both are files that only their owner can open. A lock on a file that others can read would be anybody's to take.
"""

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

IN_USE = b".layerfs-in-use"  # its owner puts it beside a file that is removed only when nobody uses it
_LOCK = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NUMBERS: Final = 2**62 - 1  # an offset that every kernel takes
NO_LOCKS: Final = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)  # of a filesystem without locks


def try_lock(fd: int, *, shared: bool = False) -> bool:
    """Lock an open file for as long as it is open; False if another open file has a lock that excludes ours.

    True on a filesystem without locks: nothing can be known there. Only a file that nobody else can open tells
    anything: whoever can read a file can lock it. Raises OSError.
    """
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True


def lock_number(fd: int, number: int) -> bool:
    """Lock one number in a file of ours, for as long as this open file lasts, also in a child; False if it is taken.

    (An open file description lock on one byte, fcntl_locking(2): the file stays empty.) True on a filesystem without
    locks.
    """
    how = struct.pack("@hhqqi", fcntl.F_WRLCK, os.SEEK_SET, number & _NUMBERS, 1, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, how)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if error.errno not in NO_LOCKS:
            raise
    return True


def share_bytes(fd: int, start: int, length: int) -> None:
    """Take a shared lock on bytes of a file, for as long as this open file lasts.

    (An open file description lock, fcntl_locking(2), of which POSIX locks by the same process are strangers too.)
    Nothing on a filesystem without locks. Raises BlockingIOError if another has locked the bytes exclusively.
    """
    how = struct.pack("@hhqqi", fcntl.F_RDLCK, os.SEEK_SET, start, length, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, how)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


def lock_file(path: bytes, *, wait: bool = True, shared: bool = False) -> int:
    """Return a descriptor that holds a file's flock(2) until it is closed; the file is made, 0600, if need be.

    Many may hold it if it is `shared`. Its holder may remove it: who has waited for the lock looks whether its file is
    still there, and else begins anew.
    BlockingIOError if `wait` is False and somebody else holds it.
    """
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        fd = os.open(path, _LOCK | os.O_CREAT, 0o600)
        try:
            _open_to_owner(fd)
            fcntl.flock(fd, how if wait else how | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


@contextmanager
def held_by_many(path: bytes) -> Iterator[None]:
    """Hold a lock file as any number of others may, while the block lasts."""
    fd = lock_file(path, shared=True)
    try:
        yield
    finally:
        os.close(fd)


@contextmanager
def held_alone(path: bytes) -> Iterator[bool]:
    """Tell, without waiting, whether nobody holds a lock file, and keep it so during the block."""
    try:
        fd = lock_file(path, wait=False)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        os.close(fd)


def use_beside(path: bytes) -> int:
    """Lock IN_USE beside a file, where the path leads, as `use` does."""
    try:
        directory = os.open(os.path.dirname(os.path.realpath(path)), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        return use(directory)
    finally:
        os.close(directory)


def use(directory: int, *, wait: bool = False) -> int:
    """Share the lock IN_USE of an open directory, so that its content stays; -1 where there is none, or it is not ours.

    A file that we may only read is no protection. Without `wait` it is -1 while the owner is removing the file.
    """
    try:
        fd = os.open(IN_USE, _LOCK, dir_fd=directory)
    except OSError:
        return -1
    st = os.fstat(fd)
    if stat.S_ISREG(st.st_mode) and st.st_uid == os.geteuid():
        with suppress(OSError):  # being removed; or no locks on this filesystem
            fcntl.flock(fd, fcntl.LOCK_SH if wait else fcntl.LOCK_SH | fcntl.LOCK_NB)
            return fd
    os.close(fd)
    return -1


def in_use(directory: int) -> int:
    """Make IN_USE in a directory of ours and share its lock; no other process may have it yet."""
    return _lock(directory, fcntl.LOCK_SH)


def unused(directory: int) -> int | None:
    """Lock IN_USE in a directory of ours exclusively, to remove the content; None while it is used."""
    with suppress(BlockingIOError):
        return _lock(directory, fcntl.LOCK_EX)
    return None


def _lock(directory: int, how: int) -> int:
    fd = os.open(IN_USE, _LOCK | os.O_CREAT, 0o600, dir_fd=directory)
    try:
        _open_to_owner(fd)
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open_to_owner(fd: int) -> None:
    """Let the owner open a lock file again that was made under any umask."""
    if stat.S_IMODE(os.fstat(fd).st_mode) != 0o600:
        os.fchmod(fd, 0o600)
