"""One mount of a XAR and all that it depends on, for all callers of a user in a mount namespace, while it is used.

    examine the files -> the mountpoint's name -> lock -> does it answer? --+-- yes ----------------+-> hold its root,
                                                                           +-- no: mount, look     |   unlock
                                                                               at the files again -+

The name holds the header's UUID, for people to read, and what tells one content from another: device, inode, size and
both times [ns] of each file. A changed or exchanged file has another time of change, which nobody can set; a digest of
the contents would have to read them whole before each start. Two XARs with one UUID have two mounts.

Nobody loses a mount that they were just told of: looking asks the server for statistics, which counts as use, and the
server that wants to leave does so with the lock in hand, having seen that nobody asked since. What is held open, as the
root is for `layerfs xar exec`, makes the unmount fail: it is never a lazy one.
"""

import errno
import os
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from layerfs.errors import InvalidArgument, NotFound
from layerfs.mounts.shared_place import LOCK, find_home, locked, make_mountpoint, remove_mountpoint
from layerfs.xar.header import Header, is_xar, read_header

TIMEOUT: Final = 870.0  # s without use after which a mount goes, as xarexec_fuse has it
_ROOT: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_DEAD: Final = (errno.ENOTCONN, errno.ECONNABORTED)


class Package(NamedTuple):
    """A XAR as it is now: its header, the files to mount [absolute, top first], and what tells these contents apart."""

    header: Header
    lowers: tuple[bytes, ...]
    stamps: tuple[tuple[int, ...], ...]


class Shared(NamedTuple):
    """A shared mount. `root` is an O_PATH descriptor of its root, the caller's: while it is open the mount stays.

    `fresh` when this call made the mount.
    """

    path: bytes
    root: int
    fresh: bool
    header: Header


def examine(file: bytes) -> Package:
    """Return a XAR and its dependencies as they are now. Raises Corrupt, OSError, and what resolving raises."""
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not keep us
    try:
        if not is_xar(fd):
            raise InvalidArgument(f"{os.fsdecode(file)} is not a XAR", "layerfs mount takes plain squashfs images")
        header = read_header(fd, file)
        stamp = _stamp(os.fstat(fd))
    finally:
        os.close(fd)
    if not header.dependencies:
        return Package(header, (os.path.abspath(file),), (stamp,))
    from layerfs.xar.graph import resolve

    lowers = resolve([os.path.abspath(file)]).lowers
    return Package(header, lowers, tuple(_stamp(os.stat(lower)) for lower in lowers))


def _stamp(st: os.stat_result) -> tuple[int, ...]:
    return st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns


def place(package: Package) -> bytes:
    """Return where a package is mounted, or would be. Raises Unsupported if there is no safe place."""
    root = package.header.mount_root
    return os.path.join(find_home(None if root is None else os.fsencode(root)), _name(package))


def _name(package: Package) -> bytes:
    """Return the mountpoint's name; several stamps are digested, since a name has at most 255 bytes."""
    words = "-".join(f"{number:x}" for stamp in package.stamps for number in stamp)
    if len(package.stamps) > 1:
        from hashlib import blake2b  # 4 ms, which a lone XAR does not pay

        words = blake2b(words.encode(), digest_size=16).hexdigest()
    seed = os.environ.get("XAR_MOUNT_SEED", "")  # xarexec_fuse's, for who wants a mount of their own
    seed = f"-seed-{seed}" if seed and "/" not in seed else ""
    namespace = os.stat("/proc/self/ns/mnt").st_ino
    return os.fsencode(f"{package.header.uuid}-{words}{seed}-ns-{namespace}")


def mount(file: bytes, timeout: float = TIMEOUT) -> Shared:
    """Return the mount of a XAR, made if there is none that answers; `timeout` [s] is for one that is made, 0 for ever.

    Raises what `examine`, `place` and launching raise.
    """
    while True:
        package = examine(file)
        shared = _share(file, package, place(package), timeout)
        if shared is not None:
            return shared


def _share(file: bytes, package: Package, path: bytes, timeout: float) -> Shared | None:
    """Return the mount at `path`; None if a file changed while it was mounted, so that nobody knows what it shows."""
    with locked(path):
        if answers(path):
            return Shared(path, os.open(path, _ROOT), False, package.header)
        _mount(package.lowers, path, timeout)
        if examine(file) == package:
            shared = Shared(path, os.open(path, _ROOT), True, package.header)
        else:
            _unmount(path)
            return None
    _sweep(os.path.dirname(path))
    return shared


def answers(path: bytes) -> bool:
    """Tell whether something is mounted at `path` and its server answers; what a crash left is taken away.

    To be asked with the lock in hand.
    """
    device = os.stat(os.path.dirname(path)).st_dev
    while True:
        try:
            if os.stat(path).st_dev == device:
                return False
            os.statvfs(path)  # asks the server, whatever the kernel has cached
            return True
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in _DEAD:
                raise
        from layerfs.sys.mounts import unmount

        unmount(path, lazy=True)


def _mount(lowers: tuple[bytes, ...], path: bytes, timeout: float) -> None:
    """Mount read-only at `path`, in a process that leaves when nobody uses it; nothing is left if that fails."""
    from layerfs.fuse.config import AttachOptions, Idle
    from layerfs.model import Driver, Stack
    from layerfs.mounts.launch import launch
    from layerfs.mounts.options import MountRequest
    from layerfs.mounts.process import Process
    from layerfs.sys.mounts import MountFlag
    from layerfs.union.options import UnionOptions

    flags = MountFlag.RDONLY | MountFlag.NOSUID | MountFlag.NODEV  # as libfuse has it for every image
    request = MountRequest(Stack(lowers), path, UnionOptions(), AttachOptions(flags), Driver.FUSE)
    make_mountpoint(path)
    try:
        launch(request, Process(idle=Idle(timeout, partial(leave, path)) if timeout else None))
    except BaseException:
        remove_mountpoint(path)
        raise


def leave(path: bytes, unused: Callable[[], bool]) -> bool:
    """Unmount for a server that has had nothing to do, unless somebody uses the mount or looks at it."""
    from layerfs.sys.mounts import unmount

    try:
        with locked(path, wait=False):
            if not unused():
                return False
            unmount(path)
            remove_mountpoint(path)
            return True
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EBUSY):
            return False
        raise


def unmount_now(file: bytes) -> None:
    """Unmount a XAR and wait until its server is gone. Raises NotFound, NotReady (busy), OSError."""
    path = place(examine(file))
    if not os.path.lexists(path + LOCK):
        raise NotFound(f"{os.fsdecode(file)} is not mounted", "a XAR that has changed since then is another one")
    with locked(path):
        _unmount(path)


def _unmount(path: bytes) -> None:
    from layerfs.mounts.removal import tear_down

    tear_down(path)
    remove_mountpoint(path)


def _sweep(home: bytes) -> None:
    """Clear away what crashes and bare unmounts left in this mount namespace; what anybody holds is left alone."""
    from layerfs.mounts import registry
    from layerfs.sys.mounts import mountinfo

    namespace = b"-ns-%d" % registry.namespace()
    mounted = {info.target: info.id for info in mountinfo()}
    dead = {(entry.mountpoint, entry.mount_id) for entry in registry.entries() if not entry.alive}
    for name in os.listdir(home):
        path = os.path.join(home, name.removesuffix(LOCK))
        if name.endswith(namespace + LOCK) and (path not in mounted or (path, mounted[path]) in dead):
            _clear(path)


def _clear(path: bytes) -> None:
    """Remove a mountpoint that is dead or not mounted, and that nobody looks at."""
    try:
        with locked(path, wait=False):
            if not answers(path):
                remove_mountpoint(path)
    except OSError:
        return  # somebody is at it; it is theirs now
