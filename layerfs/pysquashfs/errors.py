"""The one exception of this package, made of what libsquashfs and the C beside it say."""

import errno
import os

from layerfs.pysquashfs._squashfs import ffi, lib

# sqfs/error.h; the numbers are negative there. The errno is what a filesystem would answer.
CODES = {
    1: ("SQFS_ERROR_ALLOC", errno.ENOMEM),
    2: ("SQFS_ERROR_IO", errno.EIO),
    3: ("SQFS_ERROR_COMPRESSOR", errno.EIO),
    4: ("SQFS_ERROR_INTERNAL", errno.EIO),
    5: ("SQFS_ERROR_CORRUPTED", errno.EIO),
    6: ("SQFS_ERROR_UNSUPPORTED", errno.EOPNOTSUPP),
    7: ("SQFS_ERROR_OVERFLOW", errno.E2BIG),
    8: ("SQFS_ERROR_OUT_OF_BOUNDS", errno.EIO),
    9: ("SFQS_ERROR_SUPER_MAGIC", errno.EINVAL),
    10: ("SFQS_ERROR_SUPER_VERSION", errno.EOPNOTSUPP),
    11: ("SQFS_ERROR_SUPER_BLOCK_SIZE", errno.EIO),
    12: ("SQFS_ERROR_NOT_DIR", errno.ENOTDIR),
    13: ("SQFS_ERROR_NO_ENTRY", errno.ENOENT),
    14: ("SQFS_ERROR_LINK_LOOP", errno.EIO),
    15: ("SQFS_ERROR_NOT_FILE", errno.EINVAL),
    16: ("SQFS_ERROR_ARG_INVALID", errno.EINVAL),
    17: ("SQFS_ERROR_SEQUENCE", errno.EINVAL),
}


class SquashfsError(OSError):
    """What is wrong, where in which image: `code` is libsquashfs's name of it, `what` the part that was asked for.

    str() is one sentence without the errno. errno: EIO damaged, EINVAL no squashfs image or a wrong argument,
    EOPNOTSUPP compressor or feature missing, ENOENT, ENOTDIR, E2BIG and ENOMEM for what claims to be too large, EBADF
    closed.
    """

    def __init__(self, number: int, reason: str, *, filename: bytes | str | None, what: str, code: str = "") -> None:
        super().__init__(number, reason)
        self.filename = filename
        self.what = what
        self.code = code

    def __str__(self) -> str:
        place = [] if self.filename is None else [os.fsdecode(self.filename)]
        return ": ".join([*place, *([self.what] if self.what else []), str(self.strerror)])

    def __reduce__(self) -> tuple[object, ...]:  # OSError's own would call __init__ with two arguments
        return _again, (self.errno, self.strerror, self.filename, self.what, self.code)


def _again(number: int, reason: str, filename: bytes | str | None, what: str, code: str) -> SquashfsError:
    return SquashfsError(number, reason, filename=filename, what=what, code=code)


def from_status(status: int, *, filename: bytes | None, what: str) -> SquashfsError:
    """Return the exception for what a C function of the reader returned, which is less than 0 (see read.h)."""
    code, number = CODES.get(-status & 0xFF, CODES[4])
    reason = ffi.string(lib.squash_reason(-status >> 8 & 0xFF)).decode()
    system = -status >> 16
    if system:
        reason = f"{reason} ({os.strerror(system)})"
    return SquashfsError(system or number, reason, filename=filename, what=what, code=code)
