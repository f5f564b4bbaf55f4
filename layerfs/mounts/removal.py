"""Unmounting: of both drivers, until the server is gone and the upper free, and of what a crash left."""

import errno
import os
import select
import time
from functools import partial
from typing import Final

from layerfs.errors import InvalidArgument, NotFound, NotReady, empty_path
from layerfs.fuse.config import SYNCS
from layerfs.mounts import registry
from layerfs.mounts.health import FUSE_TYPE, TIMEOUT, owner_of
from layerfs.mounts.registry import MountRecord
from layerfs.sys.ask import ask
from layerfs.sys.files import content
from layerfs.sys.mounts import MountInfo, Real, mountinfo, unmount
from layerfs.sys.overlay import SOURCE
from layerfs.sys.sync import sync_filesystem
from layerfs.sys.terminal import shell_word

BUSY_PATIENCE: Final = 1.0  # s; guessed
BUSY_PAUSE: Final = 0.02  # s
PATIENCE: Final = 20.0  # s for the server to write back and leave, before we look for what keeps it; guessed
LEAVING: Final = 40.0  # s more for a server that nothing keeps; guessed


def tear_down(path: bytes, *, lazy: bool = False) -> None:
    """Unmount what layerfs has at `path` and wait until its server is gone; `lazy` works on busy mounts too, unwaited.

    Raises NotFound, NotReady (busy, or its server does not answer), InvalidArgument (not a mount of ours), OSError.
    """
    mountpoint, info = locate(path)
    recorded = [record for record in registry.records() if record.mountpoint == mountpoint]
    if info is None:
        _forget(mountpoint, recorded)
        return
    record = next((record for record in reversed(recorded) if record.mount_id == info.id), None)
    if record is None:
        _refuse_others(info)
    server = _open_server(record)
    try:
        if lazy:
            _detach(info, record)
        else:
            _see_that_it_answers(info, record)
            unmount_patiently(Real(mountpoint), lazy=False)
        if record is not None and server is not None and not lazy:
            _wait(server, record.pid, info)
    finally:
        if server is not None:
            os.close(server)
    registry.prune()


def _refuse_others(info: MountInfo) -> None:
    """Raise InvalidArgument for a mount without a record that is none of layerfs, or another user's."""
    where, owner = os.fsdecode(info.target), owner_of(info)
    if info.type != FUSE_TYPE and (info.type, info.source) != (b"overlay", SOURCE):
        text = f"{where} is a mount of type {os.fsdecode(info.type)}, not one of layerfs"
        raise InvalidArgument(text, "umount(8) unmounts it")
    mine = os.geteuid()
    if mine != 0 and owner != mine:
        whose = "root" if not owner else f"{_name_of(owner)} (uid {owner})"
        raise InvalidArgument(
            f"{where} was mounted by {whose}, not by you", f"as root: layerfs umount {shell_word(info.target)}"
        )


def _name_of(uid: int) -> str:
    import pwd  # only for those who are refused

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return "somebody"


def _see_that_it_answers(info: MountInfo, record: MountRecord | None) -> None:
    """Raise NotReady if a mount's server does not answer: to unmount it would hang us, too."""
    if not info.type.startswith(b"fuse"):
        return
    (answer,) = ask([partial(os.statvfs, info.target)], TIMEOUT)
    if answer is None:
        raise _silent(info, record, "is mounted", f"layerfs umount -l {shell_word(info.target)}")


def _silent(info: MountInfo, record: MountRecord | None, state: str, otherwise: str) -> NotReady:
    """Return what is said of a server that does not answer, with what can be done."""
    where = os.fsdecode(info.target)
    alive = record is not None and record.pid and record.alive
    who = f"its server (process {record.pid})" if record is not None and alive else "its server"
    kill = f"kill -CONT {record.pid} if it was stopped, else kill -9 {record.pid}; or " if record and alive else ""
    return NotReady(f"{where} {state}, but {who} does not answer", f"{kill}{otherwise}")


def _detach(info: MountInfo, record: MountRecord | None) -> None:
    """Write back what is dirty and unmount lazily; a server that hangs does not keep us."""
    answers = ask([partial(os.statvfs, info.target)], TIMEOUT)
    if answers == [0]:
        ask([partial(sync_filesystem, info.target)], PATIENCE)
    if not info.type.startswith(b"fuse"):
        unmount(Real(info.target), lazy=True)
        return
    (answer,) = ask([partial(unmount, Real(info.target), lazy=True)], TIMEOUT)
    if answer:
        unmount(Real(info.target), lazy=True)  # here, for its words
    elif answer is None and any(there.id == info.id for there in mountinfo()):
        raise _silent(info, record, "cannot be unmounted", "end its server first")


def locate(path: bytes) -> tuple[bytes, MountInfo | None]:
    """Return the mountpoint that a path means, and what is mounted there, topmost.

    The last name of the path is resolved only if nothing is mounted there: a mount whose server hangs would hang us.
    Raises WrongUsage for an empty path, which would mean the working directory.
    """
    if not path:
        raise empty_path()
    parent, name = os.path.split(os.path.abspath(path))
    candidate = os.path.join(os.path.realpath(parent), name)
    mounted = {info.target: info for info in mountinfo()}
    if candidate not in mounted and all(record.mountpoint != candidate for record in registry.records()):
        candidate = os.path.realpath(candidate)
    return candidate, mounted.get(candidate)


def _open_server(record: MountRecord | None) -> int | None:
    """Return a pidfd of a living server."""
    if record is None or not record.pid or not record.is_of_these_pids:
        return None
    try:
        fd = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return None
    if record.alive:  # the pid was not used again, and from here on the descriptor holds it
        return fd
    os.close(fd)
    return None


def unmount_patiently(mountpoint: bytes, *, lazy: bool) -> None:
    """Unmount; what looks into all mounts for a moment, as our own `status` does, is waited for. NotReady if busy."""
    deadline = time.monotonic() + BUSY_PATIENCE
    while True:
        try:
            unmount(mountpoint, lazy=lazy)
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
        if time.monotonic() > deadline:
            word = shell_word(mountpoint)
            raise NotReady(
                f"{os.fsdecode(mountpoint)} is in use",
                f"end what uses it (fuser -m {word}), or layerfs umount -l {word}",
            )
        time.sleep(BUSY_PAUSE)


def _wait(server: int, pid: int, info: MountInfo) -> None:
    """Return when the server has left; it stays as long as any mount namespace has a copy of the mount.

    Without a copy it is about to leave: on a busy machine, or bringing to disk what was written. That takes as long as
    the disk does, also for what others have written to the same filesystem, and a kernel overlay is waited for as well.
    """
    poll = select.poll()
    poll.register(server, select.POLLIN)
    if poll.poll(PATIENCE * 1000):
        return
    where, holder = os.fsdecode(info.target), _holder(info)
    if holder:
        raise NotReady(f"{where} is unmounted, but not in the mount namespace of process {holder}", "end that first")
    while not poll.poll(LEAVING * 1000):
        if not _brings_to_disk(pid):
            raise NotReady(f"{where} is unmounted, but its server still runs", "see its log, or kill it")


def _brings_to_disk(pid: int) -> bool:
    """Tell whether a server does what it does last, by the name that it has then."""
    try:
        return content(f"/proc/{pid}/comm").rstrip() == SYNCS
    except OSError:  # it has ended this moment
        return False


def _holder(gone: MountInfo) -> int | None:
    """Return a process in whose mount namespace a copy of a mount is, which is unmounted in ours.

    The kernel gives a device's number to another filesystem as soon as it is free, so the number alone is no proof.
    """
    here = registry.namespace()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{name}/ns/mnt").st_ino != here and any(
                (info.device, info.type, info.super_options) == (gone.device, gone.type, gone.super_options)
                for info in mountinfo(int(name))
            ):
                return int(name)
        except OSError:
            continue  # it has ended, or is somebody else's
    return None


def _forget(mountpoint: bytes, recorded: list[MountRecord]) -> None:
    """Remove the records of a mount that is gone; NotFound if there are none, NotReady if one is served elsewhere."""
    where = os.fsdecode(mountpoint)
    if not recorded:
        raise NotFound(f"nothing is mounted at {where}", "layerfs status shows what is")
    for record in recorded:
        if record.pid and record.alive:
            hint = f"nsenter -t {record.pid} -m -U layerfs umount {shell_word(mountpoint)}, or kill {record.pid}"
            raise NotReady(
                f"{where} is not mounted here, but still served: for another mount namespace, or for open files", hint
            )
        registry.remove(record)
