"""Where an image is written to: a new file that takes its name when it is complete, or a place in an open one."""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

NO_UNNAMED = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)  # open(2), O_TMPFILE: not on every filesystem


@contextmanager
def replacing(path: bytes) -> Iterator[int]:
    """Give the descriptor of a new file that takes the place of `path`, on disk, when the block ends well.

    A symlink at `path` stays, and what it leads to is replaced. Whatever ends the block otherwise, nothing is left and
    `path` is as it was: the file has no name until it is complete, where the filesystem can do that.
    Raises OSError; EINVAL if something is there that is no regular file.
    """
    # Only then: /proc/self/fd/N/NAME is in the directory that was opened as N, wherever its path leads by now.
    if os.path.islink(path) or not os.path.basename(path):
        path = os.path.realpath(path)
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
    above, name = os.path.split(path)
    with ExitStack() as stack:
        directory = os.open(above or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, directory)
        fd, temporary = _new_file(directory, above, name)
        stack.callback(os.close, fd)
        removal = stack.enter_context(ExitStack())
        if temporary:
            removal.callback(os.unlink, temporary, dir_fd=directory)
        yield fd
        try:
            os.fsync(fd)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        if not temporary:
            temporary = _spare_name(name)
            os.link(f"/proc/self/fd/{fd}", temporary, dst_dir_fd=directory, follow_symlinks=True)
            removal.callback(os.unlink, temporary, dir_fd=directory)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        removal.pop_all()
        os.fsync(directory)


def _new_file(directory: int, above: bytes, name: bytes) -> tuple[int, bytes]:
    """Create a file; its name is empty if it has none yet."""
    try:
        if os.path.exists("/proc/self/fd"):  # through which it gets its name
            return os.open(b".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666, dir_fd=directory), b""
    except OSError as error:
        if error.errno not in NO_UNNAMED:
            raise OSError(error.errno, error.strerror, os.path.join(above, name)) from None
    temporary = _spare_name(name)
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
    return os.open(temporary, flags, 0o666, dir_fd=directory), temporary


def _spare_name(name: bytes) -> bytes:
    random = os.urandom(8).hex().encode()
    return b".%b.%b" % (name[:200], random)  # within NAME_MAX


@contextmanager
def within(fd: int, offset: int) -> Iterator[None]:
    """Write behind `offset` of an open regular file; if the block fails, it ends there, or where it ended before."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "an image is written to a regular file only")
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if flags & os.O_ACCMODE != os.O_RDWR or flags & os.O_APPEND:  # duplicates are read back; pwrite(2) would append
        raise OSError(errno.EINVAL, "an image is written to a descriptor open for reading and writing, not appending")
    if offset < 0:
        raise OSError(errno.EINVAL, f"offset {offset}")
    try:
        yield
    except BaseException:
        os.ftruncate(fd, min(offset, status.st_size))
        raise
