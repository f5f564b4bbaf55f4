"""The work directory of an upper: the one that was named, or the default one beside the upper."""

import os
import stat

from layerfs.errors import InvalidArgument, Unsupported
from layerfs.mounts.preflight import see_upper

SUFFIX = b".work"
_NAME_ONE = "give a work directory of your own on the upper's filesystem: --work DIR"


def resolve(path: bytes) -> bytes:
    """Return a directory that was named, without symlinks: from here on nothing follows one that takes its place."""
    return os.path.realpath(path)


def make_work(upper: bytes) -> bytes:
    """Return UPPER.work, made if need be, beside the upper and so most likely on its filesystem.

    Others may have been there before us: what is no real directory of ours is refused. Raises NotFound,
    InvalidArgument, Unsupported.
    """
    real = resolve(upper)
    see_upper(real, upper)
    if os.path.ismount(real):
        raise InvalidArgument(
            f"{os.fsdecode(upper)} is a mount of its own, so its work directory cannot be beside it",
            "give a directory inside that filesystem as --upper, and another one as --work",
        )
    work = real + SUFFIX
    try:
        os.mkdir(work, 0o700)
    except FileExistsError:
        _see_ours(work)
    except OSError as error:
        raise Unsupported(f"cannot make the work directory {os.fsdecode(work)}: {error.strerror}", _NAME_ONE) from None
    return work


def _see_ours(work: bytes) -> None:
    st = os.lstat(work)
    if not stat.S_ISDIR(st.st_mode):
        kind = "a symlink" if stat.S_ISLNK(st.st_mode) else "a file"
        raise InvalidArgument(f"the work directory {os.fsdecode(work)} is {kind}", _NAME_ONE)
    if st.st_uid != os.geteuid() and not _shows_others(work, st):
        raise InvalidArgument(
            f"the work directory {os.fsdecode(work)} belongs to somebody else (uid {st.st_uid})", _NAME_ONE
        )


def _shows_others(work: bytes, st: os.stat_result) -> bool:
    """Tell whether this filesystem shows all that we make as another user's, whose this directory is, too."""
    from layerfs.union.work import owner_here

    fd = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return owner_here(fd) == st.st_uid
    except OSError:
        return False
    finally:
        os.close(fd)
