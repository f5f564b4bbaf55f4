"""The health of mounts: the registry's records compared with mountinfo, /proc and an answer of the mount itself."""

import errno
import os
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Final

from layerfs.model import Driver
from layerfs.mounts import registry
from layerfs.mounts.registry import MountRecord
from layerfs.sys.ask import ask
from layerfs.sys.mountinfo import DEAD, MountInfo, mountinfo

FUSE_TYPE: Final = b"fuse.layerfs"
TIMEOUT: Final = 2.0  # s; a mount that takes longer to answer one statfs is in trouble; guessed


class Health(Enum):
    """How a mount is; `MEANINGS` says it in a sentence."""

    SERVING = "serving"
    SILENT = "silent"
    DEAD = "dead"
    UNMOUNTED = "unmounted"
    DETACHED = "detached"
    ELSEWHERE = "elsewhere"


MEANINGS: Final = {
    Health.SERVING: "mounted, and it answers",
    Health.SILENT: f"mounted, but its server gave no answer within {TIMEOUT:.0f} s",
    Health.DEAD: 'its server is gone, the mount remains ("Transport endpoint is not connected"): umount clears it away',
    Health.UNMOUNTED: "unmounted past layerfs: only its record is left, which umount removes",
    Health.DETACHED: "unmounted, but still served: for open files, or for a copy in another mount namespace",
    Health.ELSEWHERE: "in another mount namespace, such as a container's",
}


@dataclass(frozen=True, slots=True)
class MountState:
    """One mount: where it is, how it is, and what the registry says of it (a stranger's mount has no record).

    `owner` is the uid that FUSE was mounted by, where mountinfo says it.
    """

    mountpoint: bytes
    health: Health
    record: MountRecord | None = None
    owner: int | None = None


def survey(timeout: float = TIMEOUT) -> list[MountState]:
    """Return all mounts of layerfs that this process can see, recorded ones first.

    All of them are asked at once, in a child: an answer that never comes must hang nobody.
    """
    records = registry.records()  # first: a mount is made before its record
    mounted = {info.id: info for info in mountinfo()}
    newest = {record.mount_id: record for record in records}
    recorded = [
        (record, _mount_of(record, mounted) if newest[record.mount_id] == record else None) for record in records
    ]
    ours = {info.id for _, info in recorded if info is not None}
    strangers = [info for info in mounted.values() if info.type == FUSE_TYPE and info.id not in ours]
    asked = [info for record, info in recorded if info is not None and record.alive] + strangers
    answers = ask([partial(os.statvfs, info.target) for info in asked], timeout)
    heard = {info.id: _heard(answer) for info, answer in zip(asked, answers, strict=True)}
    states = [_recorded(record, info, heard) for record, info in recorded]
    return states + [MountState(info.target, heard[info.id], None, owner_of(info)) for info in strangers]


def owner_of(info: MountInfo) -> int | None:
    """Return by whom FUSE was mounted; None for other filesystems."""
    words = (word for word in info.super_options if word.startswith(b"user_id="))
    return next((int(word[8:]) for word in words if word[8:].isdigit()), None)


def _mount_of(record: MountRecord, mounted: dict[int, MountInfo]) -> MountInfo | None:
    """Return a recorded mount, if it is in our mount namespace."""
    info = mounted.get(record.mount_id)
    return info if info is not None and _matches(record, info) else None


def _recorded(record: MountRecord, info: MountInfo | None, heard: dict[int, Health]) -> MountState:
    health = _absent(record) if info is None else heard.get(info.id, Health.DEAD)
    return MountState(record.mountpoint, health, record)


def _matches(record: MountRecord, info: MountInfo | None) -> bool:
    """Tell whether a mount is the recorded one: ids are used again after an unmount."""
    if info is None or info.target != record.mountpoint:
        return False
    return (info.type == b"overlay") == (record.driver is Driver.KERNEL)


def _absent(record: MountRecord) -> Health:
    """Return the health of a mount that is not in our mount namespace."""
    if record.driver is Driver.KERNEL and record.alive and record.namespace != registry.namespace():
        return Health.ELSEWHERE
    if record.pid == 0 or not record.alive:
        return Health.UNMOUNTED
    if not record.is_of_these_pids:
        return Health.ELSEWHERE
    if record.driver is Driver.KERNEL:  # its server is where no mounts are
        return Health.DETACHED
    try:
        there = {info.id: info for info in mountinfo(record.pid)}
    except (PermissionError, FileNotFoundError, ProcessLookupError):
        return Health.ELSEWHERE
    return Health.ELSEWHERE if _matches(record, there.get(record.mount_id)) else Health.DETACHED


def _heard(answer: int | None) -> Health:
    """Return what an answer to statvfs says, which the kernel never gives from a cache."""
    if answer in DEAD:
        return Health.DEAD
    if answer in (0, errno.EACCES):  # EACCES: somebody else's, who lets nobody in: the kernel answers, not the server
        return Health.SERVING
    return Health.SILENT
