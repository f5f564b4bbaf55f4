"""Lock files that go with their last holder."""

import fcntl
import os


def lock_file(path: bytes, *, wait: bool = True) -> int:
    """Return a descriptor that holds a file's flock(2) until it is closed; the file is made, 0600, if need be.

    Its holder may remove it: who has waited for the lock looks whether its file is still there, and else begins anew.
    BlockingIOError if `wait` is False and somebody else holds it.
    """
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
