"""Where a user's shared mounts are: a directory that only this user can have filled, below a root open to everybody.

    ROOT/uid-1000/                       0700, this user's, by the id of the initial user namespace
        8f583eae-...-ns-4026531841       a mountpoint of the mount namespace with that inode number; before it -pid-N
                                         and -group-N, for callers in a pid namespace or cgroup that may end by itself
        8f583eae-...-ns-4026531841.lock  0600, flock(2): held by whoever looks at the mountpoint, mounts or unmounts

Anybody may have made `uid-1000` in /dev/shm before us, to have us mount, or run programs, in a directory of theirs:
`layerfs.sys.private` says which one is ours. Nobody else can exchange a step to that, so its path may be used.

A lock file is removed together with its mountpoint, by the holder of the lock.
"""

import fcntl
import os
from collections.abc import Iterator

from layerfs.errors import Unsupported
from layerfs.sys.ids import outside_id
from layerfs.sys.locks import lock_file
from layerfs.sys.private import own_directory, runtime_directory
from layerfs.sys.terminal import warn
from layerfs.sys.trust import Untrusted

ROOTS = (b"/mnt/xarfuse", b"/dev/shm")  # where xarexec_fuse looks, in its order
LOCK = b".lock"


def find_home(mount_root: bytes | None) -> bytes:
    """Return this user's directory for shared mounts, made if need be: in `mount_root` where one is given.

    Else, and where somebody else has a hand in that one, in the first root that can be used; a hand of somebody else
    is told of on stderr. Raises Unsupported, with what is wrong with each root.
    """
    complaints = []
    warnings = []
    for root in _roots(mount_root):
        try:
            home = own_directory(root, b"uid-%d" % outside_id(os.geteuid()), make=True)
        except OSError as error:
            complaint = f"{os.fsdecode(error.filename or root)}: {error.strerror}"
            if isinstance(error, Untrusted):
                complaint = complaint.replace(": ", " ", 1)
                warnings.append(complaint)
            complaints.append(complaint)
            if mount_root and len(complaints) == 1 and not isinstance(error, Untrusted):
                break
        else:
            for warning in warnings:
                warn(f"{warning}; mounting in {os.fsdecode(home)} instead")
            return home
    hint = "as root: mkdir -m 1777 /mnt/xarfuse; or set XDG_RUNTIME_DIR"
    if mount_root:
        hint = f"the XAR asks for this MOUNT_ROOT; as root: mkdir -m 1777 {os.fsdecode(mount_root)}"
    raise Unsupported(f"no place for a shared mount: {'; '.join(complaints)}", hint)


def _roots(mount_root: bytes | None) -> Iterator[bytes]:
    """Yield where homes may be, the best first; the last one is looked for only when all others failed."""
    if mount_root:
        yield os.path.abspath(mount_root)
    yield from ROOTS
    runtime = os.environb.get(b"XDG_RUNTIME_DIR", b"")
    if runtime.startswith(b"/"):
        yield runtime
    try:
        yield runtime_directory()
    except PermissionError:  # it names every place that was tried
        return


class locked:
    """Hold the lock of a mountpoint; BlockingIOError if `wait` is False and somebody else holds it.

    A class, since contextlib would take longer to import than all that is done here.
    """

    def __init__(self, mountpoint: bytes, *, wait: bool = True) -> None:
        self._fd = lock_file(mountpoint + LOCK, wait=wait)

    def __enter__(self) -> int:
        """Return the descriptor that holds the lock."""
        return self._fd

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)  # a process that was sent a copy, and is stopped, must not keep it
        os.close(self._fd)


def make_mountpoint(mountpoint: bytes) -> None:
    """Make the directory to mount at, unless an earlier mount left it."""
    try:
        os.mkdir(mountpoint, 0o700)
    except FileExistsError:
        pass
    os.chmod(mountpoint, 0o700)  # whatever the umask is, or was


def remove_mountpoint(mountpoint: bytes) -> None:
    """Remove an unmounted directory and its lock file; only the holder of the lock calls it."""
    for remove, path in ((os.rmdir, mountpoint), (os.unlink, mountpoint + LOCK)):
        try:
            remove(path)
        except FileNotFoundError:
            pass
