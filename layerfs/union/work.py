"""The scratch directory of an upper: only we can write to it; locked, emptied, and marked as the kernel does.

    WORK/work      scratch, as kernel overlayfs has it: a real directory of ours, 0700, pinned; whoever owns WORK may
                   rename it, but not enter it. flock(2) on it says that this mount has it: nobody else can open it.
    WORK/index     kernel overlayfs's, of a mount with index=on: it speaks of an upper that has changed, and is removed
    anything else  is not ours, and stays

That an upper is in use is said on the upper (`claim`), and by a number in a file of this user's runtime directory:
whoever can read an upper could hold any lock on the upper itself.
"""

import os
import re
import stat
import time
from collections.abc import Callable
from functools import partial

from layerfs.errors import InvalidArgument, NotReady
from layerfs.sys import dirs, target
from layerfs.sys.locks import lock_number, try_lock
from layerfs.sys.private import runtime_directory
from layerfs.sys.sync import syncfs
from layerfs.sys.target import PINNED
from layerfs.union import claim
from layerfs.union.state import Work

LOCK_PATIENCE = 3.0  # seconds; a server that was just unmounted needs a moment to let go
UPPERS = b"uppers.lock"  # in the runtime directory
_OTHER = "unmount it, or give another directory"
_SCRATCH = b"work"
_INDEX = b"index"
_INDEXED = re.compile(rb"#?[0-9a-f]+")  # a file handle in hexadecimal, or a temporary name (fs/overlayfs/namei.c)
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_work(path: bytes, upper: int, *, volatile: bool) -> Work:
    """Lock upper and work directory, refuse what a volatile mount left behind, and empty the scratch directory.

    Raises NotReady when another mount has them; InvalidArgument for the remains of a volatile mount, for read-only
    places, and for a scratch directory that somebody else made.
    """
    held: list[int] = []
    try:
        held.append(_open_base(path))
        held.append(_open_scratch(held[0], path))
        held.append(_lock_upper(upper))
        _refuse_volatile(held[1], path)
        _clean(held[0], held[1])
        if volatile:
            _mark_volatile(held[1])
    except BaseException:
        for fd in held:
            if fd >= 0:
                os.close(fd)
        raise
    return Work(*held)


def scratch_in_use(path: bytes) -> bool:
    """Tell whether a FUSE mount of ours has a work directory; False where there is no scratch directory of ours."""
    try:
        base = os.open(path, _OPEN)
    except OSError:
        return False
    try:
        scratch = os.open(_SCRATCH, _OPEN, dir_fd=base)
    except OSError:  # none, or somebody else's
        return False
    finally:
        os.close(base)
    try:
        return os.fstat(scratch).st_uid == os.geteuid() and not try_lock(scratch)
    finally:
        os.close(scratch)


def upper_in_use(upper: bytes) -> bool:
    """Tell whether a FUSE mount, or `layerfs run`, has an upper."""
    fd = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if claim.holder(fd) is not None:
            return True
        lock = _try_upper(fd)
    finally:
        os.close(fd)
    if lock is None:
        return True
    if lock >= 0:
        os.close(lock)
    return False


def _open_base(path: bytes) -> int:
    """Open the work directory, whose path is already resolved; a symlink that was put there since is refused."""
    try:
        return os.open(path, _OPEN)
    except NotADirectoryError as error:
        raise InvalidArgument(f"work directory {os.fsdecode(path)} is a symlink or no directory", "name it") from error


def _open_scratch(base: int, path: bytes) -> int:
    """Return the scratch directory, made if need be, ours and locked."""
    where = os.fsdecode(path)
    while True:
        _make_scratch(base, where)
        scratch = _open_ours(base, where)
        try:
            if not _patiently(partial(try_lock, scratch)):
                raise NotReady(f"work directory {where} is in use by another mount", _OTHER)
            now = dirs.lstat_or_none(base, _SCRATCH)
            if now is not None and os.path.samestat(now, os.fstat(scratch)):
                return scratch
        except BaseException:
            os.close(scratch)
            raise
        os.close(scratch)  # exchanged before it was locked, as kernel overlayfs does when it mounts


def _make_scratch(base: int, where: str) -> None:
    try:
        os.mkdir(_SCRATCH, 0o700, dir_fd=base)
    except FileExistsError:
        pass
    except OSError as error:
        raise InvalidArgument(
            f"work directory {where} cannot be written: {error.strerror}", "give one that you may write"
        ) from None


def _open_ours(base: int, where: str) -> int:
    """Open the scratch directory, once it is seen to be a real one of ours."""
    pin = os.open(_SCRATCH, PINNED, dir_fd=base)
    try:
        st = os.fstat(pin)
        if not stat.S_ISDIR(st.st_mode):
            raise InvalidArgument(f"{where}/work is no directory", "remove it, or give another work directory")
        if st.st_uid != os.geteuid() and st.st_uid != owner_here(base):
            raise InvalidArgument(
                f"work directory {where}: {where}/work belongs to somebody else (uid {st.st_uid})",
                "remove it, or give a work directory of your own",
            )
        target.chmod(dirs.held(pin), 0o700)  # kernel overlayfs leaves it 000; a foreign setgid bit would be inherited
        return os.open(b".", _OPEN, dir_fd=pin)
    finally:
        os.close(pin)


def owner_here(base: int) -> int:
    """Return the owner that this filesystem gives to what we make: NFS and FUSE may show us as another user.

    Told by a file that we make and hold: a directory of somebody else's cannot take its place.
    """
    name = b"layerfs-owner-" + os.urandom(8).hex().encode()
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=base)
    try:
        return os.fstat(fd).st_uid
    finally:
        os.close(fd)
        os.unlink(name, dir_fd=base)


def _lock_upper(upper: int) -> int:
    """Return what holds the upper for us as long as it is open; -1 where there is no place to say so."""
    found: list[int | None] = []

    def attempt() -> bool:
        found[:] = [_try_upper(upper)]
        return found[0] is not None

    if not _patiently(attempt) or found[0] is None:
        raise NotReady("upper directory is in use by another mount", _OTHER)
    try:
        if not _patiently(partial(claim.claim, upper)):
            raise _claimed(upper)
    except BaseException:
        if found[0] >= 0:
            os.close(found[0])
        raise
    return found[0]


def _claimed(upper: int) -> NotReady:
    life = claim.holder(upper)
    who = "" if life is None else f", of process {life.pid}"
    return NotReady(
        f"upper directory is in use by another mount{who}",
        f"{_OTHER}; if nothing has it: setfattr -x {claim.CLAIM} UPPER",
    )


def _try_upper(upper: int) -> int | None:
    """Return a descriptor that holds an upper; None if another one does, -1 if nobody can know."""
    st = os.fstat(upper)
    try:
        path = os.path.join(runtime_directory(), UPPERS)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except PermissionError:  # no runtime directory: then there is no `status` either
        return -1
    if lock_number(fd, hash((st.st_dev, st.st_ino))):
        return fd
    os.close(fd)
    return None


def _patiently(attempt: Callable[[], bool]) -> bool:
    """Try until it succeeds or LOCK_PATIENCE is over; tell whether it did."""
    deadline = time.monotonic() + LOCK_PATIENCE
    while not attempt():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _refuse_volatile(scratch: int, path: bytes) -> None:
    if dirs.lstat_or_none(scratch, b"incompat") is None:
        return
    if dirs.lstat_or_none(scratch, b"incompat/volatile") is not None:
        mark = f"{os.fsdecode(path)}/work/incompat/volatile"
        raise InvalidArgument(
            f"a volatile mount on work directory {os.fsdecode(path)} ended in a crash: its upper may be incomplete",
            f"throw upper and work directory away; if you know the upper to be whole, remove {mark}",
        )


def _clean(base: int, scratch: int) -> None:
    """Remove the leftovers of a crash or of another overlay; what no overlay made is not ours to remove."""
    _remove_index(base)
    dirs.empty(scratch)
    for acl in ("system.posix_acl_default", "system.posix_acl_access"):
        if acl in dirs.xattrs(scratch):
            target.removexattr(scratch, acl)
    os.fchmod(scratch, 0o700)


def _remove_index(base: int) -> None:
    """Remove kernel overlayfs's index, which is known by its names; a directory of that name may be anything."""
    st = dirs.lstat_or_none(base, _INDEX)
    if st is None or not stat.S_ISDIR(st.st_mode) or st.st_uid != os.geteuid():
        return
    fd = os.open(_INDEX, _OPEN, dir_fd=base)
    try:
        foreign = [name for name in dirs.names(fd) if not _INDEXED.fullmatch(name)]
        if not foreign:
            dirs.empty(fd)
    finally:
        os.close(fd)
    if not foreign:
        os.rmdir(_INDEX, dir_fd=base)


def _mark_volatile(scratch: int) -> None:
    """Leave the mark that kernel overlayfs refuses too (overlayfs.rst, "volatile mount")."""
    os.mkdir(b"incompat", 0o700, dir_fd=scratch)
    os.mkdir(b"incompat/volatile", 0o700, dir_fd=scratch)


def end_use(work: Work, upper: int, *, volatile: bool) -> None:
    """Release the claim on the upper.

    Make up for the syncs that a volatile mount skipped, then take its mark away: this end is no crash.
    """
    claim.release(upper)
    if not volatile:
        return
    syncfs(upper)
    dirs.remove(work.fd, b"incompat")
    os.fsync(work.fd)  # else a power cut brings the mark back, and the next mount takes this end for a crash
