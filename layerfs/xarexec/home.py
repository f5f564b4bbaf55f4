"""Where a user's shared mounts are: a directory that nobody else can have filled, below a root open to everybody.

    ROOT/uid-1000/                       0700, this user's, by the id of the initial user namespace
        8f583eae-...-ns-4026531841       a mountpoint of the mount namespace with that inode number
        8f583eae-...-ns-4026531841.lock  0600, flock(2): held by whoever looks at the mountpoint, mounts or unmounts

Anybody may have made `uid-1000` in /dev/shm before us, to have us mount, or run programs, in a directory of theirs. So
every step of the way is opened from the step before, never through a symlink, and must belong to root or to us and be
closed to others, or sticky. Once that is seen nobody else can exchange a step, and the path may be used.

A lock file is removed together with its mountpoint, by who holds the lock.
"""

import errno
import os
import stat

from layerfs.errors import Unsupported
from layerfs.sys.ids import outside_id
from layerfs.sys.locks import lock_file
from layerfs.sys.terminal import warn

ROOTS = (b"/mnt/xarfuse", b"/dev/shm")  # where xarexec_fuse looks, in its order
LOCK = b".lock"
_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class _Refused(Exception):
    """A root, or the user's directory in it, that somebody else may change; the text says why."""


def find_home(mount_root: bytes | None) -> bytes:
    """Return this user's directory for shared mounts, made if need be: in `mount_root` where one is given.

    Else in the first root that can be used. One that cannot since somebody else has a hand in it is told of on stderr.
    Raises Unsupported, with what is wrong with each root.
    """
    complaints = []
    warnings = []
    for root in (mount_root,) if mount_root else _roots():
        try:
            home = _home_in(os.path.realpath(root))
        except _Refused as refused:
            complaints.append(str(refused))
            warnings.append(str(refused))
        except OSError as error:
            complaints.append(f"{os.fsdecode(root)}: {error.strerror}")
        else:
            for warning in warnings:
                warn(f"{warning}; mounting in {os.fsdecode(home)} instead")
            return home
    hint = "as root: mkdir -m 1777 /mnt/xarfuse; or set XDG_RUNTIME_DIR"
    if mount_root:
        hint = f"the XAR asks for this MOUNT_ROOT; as root: mkdir -m 1777 {os.fsdecode(mount_root)}"
    raise Unsupported(f"no place for a shared mount: {'; '.join(complaints)}", hint)


def _roots() -> list[bytes]:
    runtime = os.environb.get(b"XDG_RUNTIME_DIR", b"")
    return [*ROOTS, *([runtime] if runtime.startswith(b"/") else [])]


def _home_in(root: bytes) -> bytes:
    """Return the user's directory below a root that is closed to others or sticky; _Refused, OSError."""
    name = b"uid-%d" % outside_id(os.geteuid())
    at = _walk(root)
    try:
        home = os.path.join(root, name)
        try:
            os.mkdir(name, 0o700, dir_fd=at)
        except FileExistsError:
            pass
        _see_ours(at, name, home)
    finally:
        os.close(at)
    return home


def _walk(path: bytes) -> int:
    """Open a directory step by step, each of them trustworthy, and return its descriptor."""
    fd = os.open(b"/", _STEP)
    # In a user namespace of one id the system's directories belong to nobody, as / does.
    trusted = {0, os.geteuid(), os.fstat(fd).st_uid}
    so_far = b""
    for name in filter(None, path.split(b"/")):
        so_far += b"/" + name
        try:
            step = os.open(name, _STEP, dir_fd=fd)
        finally:
            os.close(fd)
        fd = step
        st = os.fstat(fd)
        wrong = _wrong(st, trusted, sticky=True)
        if wrong:
            os.close(fd)
            raise _Refused(f"{os.fsdecode(so_far)} {wrong}")
    return fd


def _see_ours(at: int, name: bytes, path: bytes) -> None:
    """See that a name is a directory of ours, closed to others; else _Refused."""
    try:
        fd = os.open(name, _STEP, dir_fd=at)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        raise _Refused(f"{os.fsdecode(path)} is not a directory") from None
    st = os.fstat(fd)
    os.close(fd)
    wrong = _wrong(st, {os.geteuid()}, sticky=False)
    if wrong:
        raise _Refused(f"{os.fsdecode(path)} {wrong}")


def _wrong(st: os.stat_result, trusted: set[int], *, sticky: bool) -> str:
    """Return what is wrong with a directory in which nobody but the trusted may change names; `sticky` will do."""
    facts = f"(owner {st.st_uid}, mode {stat.S_IMODE(st.st_mode):04o})"
    if st.st_uid not in trusted:
        return f"belongs to somebody else {facts}"
    if st.st_mode & _OTHERS and not (sticky and st.st_mode & stat.S_ISVTX):
        return f"is open to others {facts}"
    return ""


class locked:
    """Hold the lock of a mountpoint; BlockingIOError if `wait` is False and somebody else holds it.

    A class, since contextlib would take longer to import than all that is done here.
    """

    def __init__(self, mountpoint: bytes, *, wait: bool = True) -> None:
        self._fd = lock_file(mountpoint + LOCK, wait=wait)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def make_mountpoint(mountpoint: bytes) -> None:
    """Make the directory to mount at, unless an earlier mount left it."""
    try:
        os.mkdir(mountpoint, 0o700)
    except FileExistsError:
        pass


def remove_mountpoint(mountpoint: bytes) -> None:
    """Remove an unmounted directory and its lock file; to be called by who holds the lock."""
    for remove, path in ((os.rmdir, mountpoint), (os.unlink, mountpoint + LOCK)):
        try:
            remove(path)
        except FileNotFoundError:
            pass
