"""The beginning and the end of a shared mount: the first caller makes it, and its server ends it when it is unused."""

import errno
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial

from layerfs.errors import NotFound
from layerfs.fuse.config import Idle
from layerfs.model import Driver, Stack
from layerfs.mounts import registry
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
from layerfs.xarexec.memo import MEMO
from layerfs.xarexec.xarfile import XarFile, answers, examine, mountpoint_of, read_strictly

FORGET = 30 * 86400  # s after which nobody remembers what a XAR depended on; guessed
ASKED = "a XAR that is shared is served by FUSE, as xarexec_fuse does it"
FLAGS = MountFlag.RDONLY | MountFlag.NOSUID | MountFlag.NODEV  # as libfuse has it for every image


def mount_anew(file: bytes, xar: XarFile, path: bytes, timeout: float) -> bool:
    """Mount a XAR at `path`, whose lock the caller holds, served until `timeout` [s] have passed without use.

    False, with nothing left, if a file changed meanwhile: nobody knows then what would be shown. Raises LayerfsError.
    """
    _sweep(path)
    with ExitStack() as undo:
        undo.callback(remove_mountpoint, path)
        if _mount(file, xar, path, timeout):
            undo.callback(unmount, path, lazy=True)  # nobody was told of it yet
            if xar.is_same(examine(file, anew=True)):
                undo.pop_all()
                return True
    return False


def _mount(file: bytes, xar: XarFile, path: bytes, timeout: float) -> bool:
    """Check the XAR's header strictly and mount it; False if the file has changed."""
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        read_strictly(fd, file)
    finally:
        os.close(fd)
    stack = complete(Stack(xar.members.lowers[:1])).stack
    if stack.lowers != xar.members.lowers:
        return False
    make_mountpoint(path)
    idle = Idle(timeout, partial(leave, path)) if timeout else None
    attachment = _attachment()
    union = UnionOptions(acl=not attachment.unchecked)  # with ACLs the kernel checks always
    request = MountRequest(stack, path, union, attachment, Driver.FUSE, ASKED)
    launch(request, Process(idle=idle))
    return True


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
