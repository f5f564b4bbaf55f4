"""Checks before anything is mounted; errors name paths as the user gave them."""

import os
from typing import Final

from layerfs.errors import AlreadyExists, InvalidArgument, NotFound, NotReady
from layerfs.fuse.mount import check_mountpoint
from layerfs.model import Stack
from layerfs.mounts import registry
from layerfs.mounts.registry import MountRecord
from layerfs.spec.options import MountRequest
from layerfs.sys.mountinfo import DEAD
from layerfs.sys.mounts import mountinfo, overlay_upon, unmount
from layerfs.sys.terminal import shell_word

UNMOUNT: Final = "unmount that first, or take another upper and work directory"


def look_ahead(request: MountRequest, *, clear_dead: bool) -> None:
    """Raise what is known, without trying, to prevent a mount.

    With `clear_dead` a mount of ours at the mountpoint whose server is dead is taken away first. Raises LayerfsError.
    """
    if clear_dead:
        _clear_dead(request.mountpoint)
    check_mountpoint(request.mountpoint)
    record = record_at(request.mountpoint)
    if record is not None and record.stack == request.stack:
        where = os.fsdecode(request.mountpoint)
        raise AlreadyExists(
            f"this stack is already mounted at {where}", f"layerfs umount {shell_word(request.mountpoint)}"
        )
    if request.stack.upper is not None:
        see_upper(request.stack.upper)


def see_that_it_answers(mountpoint: bytes) -> None:
    """Raise NotReady if what is mounted at a path already is FUSE that does not answer: to look at it would hang us."""
    number = _mount_of(mountpoint)
    if number == _mount_of(os.path.dirname(os.path.abspath(mountpoint))):
        return  # nothing is mounted there, as nearly always
    if not any(info.id == number and info.type.startswith(b"fuse") for info in mountinfo()):
        return
    from functools import partial

    from layerfs.mounts.health import TIMEOUT
    from layerfs.sys.ask import ask

    (answer,) = ask([partial(os.statvfs, mountpoint)], TIMEOUT)
    if answer is None:
        where = os.fsdecode(mountpoint)
        raise NotReady(
            f"the server of what is mounted at {where} does not answer", f"layerfs umount -l {shell_word(mountpoint)}"
        )


def record_at(mountpoint: bytes) -> MountRecord | None:
    """Return the record of what is mounted at a path, topmost, if it is ours."""
    if _mount_of(mountpoint) == _mount_of(os.path.dirname(mountpoint)):
        return None  # nothing is mounted there, as nearly always
    number = _mount_of(mountpoint)
    record = registry.current().get(number)
    return record if record is not None and record.mountpoint == mountpoint else None


def _mount_of(path: bytes) -> int:
    try:
        return registry.mount_id(path)
    except OSError:
        return -1


def _clear_dead(mountpoint: bytes) -> None:
    """Unmount what a crashed server of ours left."""
    try:
        os.statvfs(mountpoint)
    except OSError as error:
        record = record_at(mountpoint) if error.errno in DEAD else None
        if record is not None and not record.alive and any(info.id == record.mount_id for info in mountinfo()):
            unmount(mountpoint, lazy=True)
            registry.remove(record)


def see_no_overlay(stack: Stack) -> None:
    """Raise NotReady if a kernel overlay that can be seen from here has the upper or the work directory."""
    for path in (stack.upper, stack.work):
        overlay = None if path is None else overlay_upon(path)
        if path is not None and overlay is not None:
            where = os.fsdecode(overlay.target)
            raise NotReady(f"{os.fsdecode(path)} is in use by the overlay at {where}", UNMOUNT)


def see_upper(upper: bytes, named: bytes | None = None) -> None:
    """Raise NotFound or InvalidArgument for an upper that cannot be written to; `named` is how it was named."""
    shown = os.fsdecode(upper if named is None else named)
    if not os.path.isdir(upper):
        if os.path.exists(upper):
            raise InvalidArgument(f"the upper {shown} is not a directory", "changes go into a directory")
        raise NotFound(f"no such upper: {shown}", "make the directory first")
    if os.statvfs(upper).f_flag & os.ST_RDONLY:
        hint = "give one that can be written, or none to mount read-only"
        raise InvalidArgument(f"the upper {shown} is on a read-only filesystem", hint)
    if not os.access(upper, os.W_OK | os.X_OK, effective_ids=True):
        owner = os.stat(upper).st_uid
        whose = "is yours, but may not be written to" if owner == os.geteuid() else f"belongs to uid {owner}"
        raise InvalidArgument(f"the upper {shown} {whose}", "give an upper of your own that you may write to")
