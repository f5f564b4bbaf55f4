"""The server of a shared mount: how it is started, and how it ends the mount when that is unused."""

import errno
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from layerfs.errors import LayerfsError, NotFound
from layerfs.fuse.config import Idle
from layerfs.model import Driver, Stack
from layerfs.mounts import registry
from layerfs.mounts.asking import tell_begun
from layerfs.mounts.launch import launch
from layerfs.mounts.packages import complete
from layerfs.mounts.process import Process
from layerfs.mounts.removal import unmount_patiently
from layerfs.spec.attach import AttachOptions
from layerfs.spec.options import MountRequest
from layerfs.sys.mounts import MountFlag, mountinfo, unmount
from layerfs.sys.namespaces import in_user_namespace
from layerfs.union.options import UnionOptions
from layerfs.xarexec.home import LOCK, locked, make_mountpoint, remove_mountpoint
from layerfs.xarexec.memo import MEMO, spell, stamp_of
from layerfs.xarexec.xarfile import answers, examine, mountpoint_of, read_strictly

FORGET = 30 * 86400  # s after which nobody remembers what a XAR depended on; guessed
ASKED = "a XAR that is shared is served by FUSE, as xarexec_fuse does it"
_REFUSED: Final = 1  # status of who was asked to mount, and does not
FLAGS = MountFlag.RDONLY | MountFlag.NOSUID | MountFlag.NODEV  # as libfuse has it for every image


def mount_here(file: bytes, lowers: tuple[bytes, ...], path: bytes, timeout: float) -> bool:
    """Check a XAR's header strictly and mount it and what it depends on, with a server of its own.

    False if it depends on other files than `lowers`. The caller holds the lock of `path`. Raises LayerfsError, OSError.
    """
    _sweep(path)
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        read_strictly(fd, file)
    finally:
        os.close(fd)
    stack = complete(Stack(lowers[:1])).stack
    if stack.lowers != lowers:
        return False
    make_mountpoint(path)
    idle = Idle(timeout, partial(leave, path)) if timeout else None
    attachment = _attachment()
    union = UnionOptions(acl=not attachment.unchecked)  # with ACLs the kernel checks always
    request = MountRequest(stack, path, union, attachment, Driver.FUSE, ASKED)
    launch(request, Process(idle=idle))
    return True


def mount_for_another(words: Sequence[str]) -> int:
    """Be the server of a mount that another process asked for (`begin.py`), which holds the lock: it does not return.

    Returns a status that is not MOUNTED, with nothing left but perhaps the mountpoint, if there is to be none.
    """
    path, timeout, stamps, *lowers = map(os.fsencode, words)
    try:
        if stamps != spell(*(stamp_of(os.stat(lower)) for lower in lowers)):
            return _REFUSED
    except OSError:
        return _REFUSED
    tell_begun()
    try:
        mount_here(lowers[0], tuple(lowers), path, float(timeout))
    except (LayerfsError, OSError, KeyboardInterrupt):  # the asking process meets the error itself, or was interrupted
        pass
    return _REFUSED


def _attachment() -> AttachOptions:
    """Return how a XAR is attached: the owners of its files do not restrict the user who runs it, as in the reference.

    Root may do everything anyway, and lets the programs in that it starts as other users.
    """
    return AttachOptions(FLAGS, unchecked=os.geteuid() != 0 or in_user_namespace())


def leave(path: bytes, unused: Callable[[], bool]) -> bool:
    """Unmount an idle server's mount, unless it is in use or its lock is held."""
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
    """Unmount a XAR; its server ends by itself. Raises NotFound, NotReady (busy), OSError."""
    path = mountpoint_of(examine(file))
    with locked(path):
        mounted = answers(path)
        if mounted:
            unmount_patiently(path, lazy=False)
        remove_mountpoint(path)
    if not mounted:
        raise NotFound(f"{os.fsdecode(file)} is not mounted", "a XAR that has changed since then is another one")


def _sweep(new: bytes) -> None:
    """Remove what crashes and bare unmounts of this mount namespace left beside a new mountpoint."""
    home = os.path.dirname(new)
    namespace = b"-ns-%d" % registry.namespace()
    mounted = {info.target: info.id for info in mountinfo()}
    dead = {(record.mountpoint, record.mount_id) for record in registry.current().values() if not record.alive}
    for name in os.listdir(home):
        if name.endswith(MEMO):
            _forget(os.path.join(home, name))
        path = os.path.join(home, name.removesuffix(LOCK))
        gone = path not in mounted or (path, mounted[path]) in dead
        if name.endswith(namespace + LOCK) and gone and path != new:
            _clear(path)


def _forget(memo: bytes) -> None:
    """Remove a memo older than FORGET; the XAR is resolved again if it is still used."""
    with suppress(FileNotFoundError):
        if time.time() - os.stat(memo).st_mtime > FORGET:
            os.unlink(memo)


def _clear(path: bytes) -> None:
    """Remove a mountpoint that is dead or not mounted, unless another process holds its lock."""
    try:
        with locked(path, wait=False):
            if not answers(path):
                remove_mountpoint(path)
    except BlockingIOError:
        return
