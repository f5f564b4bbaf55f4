"""What is really there: the registry's entries crossed with mountinfo, /proc and an answer from the mount itself."""

import errno
import os
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from threading import Thread
from typing import Final

from layerfs.model import Driver
from layerfs.mounts import registry
from layerfs.mounts.registry import Entry
from layerfs.sys.mounts import MountInfo, mountinfo

FUSE_TYPE: Final = b"fuse.layerfs"
TIMEOUT: Final = 2.0  # s; a mount that takes longer to answer one statfs is in trouble; guessed


class Health(Enum):
    """How a mount is."""

    SERVING = "serving"
    SILENT = "silent"  # the server lives but does not answer
    DEAD = "dead"  # the server is gone, the mount remains: "Transport endpoint is not connected"
    UNMOUNTED = "unmounted"  # the entry remains
    DETACHED = "detached"  # unmounted, but still served: for open files, or for a copy in another mount namespace
    ELSEWHERE = "elsewhere"  # in another mount namespace


@dataclass(frozen=True, slots=True)
class Report:
    """One mount: where it is, how it is, and what the registry says of it (a stranger's mount has no entry)."""

    mountpoint: bytes
    health: Health
    entry: Entry | None = None


def survey(timeout: float = TIMEOUT) -> list[Report]:
    """Return all mounts of layerfs that this process can see, recorded ones first. Asks all of them at once."""
    mounted = {info.id: info for info in mountinfo()}
    recorded = registry.entries()
    ours = {entry.mount_id for entry in recorded if _matches(entry, mounted.get(entry.mount_id))}
    strangers = [info for info in mounted.values() if info.type == FUSE_TYPE and info.id not in ours]
    questions: list[tuple[Entry | None, MountInfo | None]] = []
    questions += [(entry, mounted.get(entry.mount_id)) for entry in recorded]
    questions += [(None, info) for info in strangers]
    pending = [_begin(entry, info) for entry, info in questions]
    return [_report(entry, info, answer, timeout) for (entry, info), answer in zip(questions, pending, strict=True)]


def _matches(entry: Entry, info: MountInfo | None) -> bool:
    """Tell whether a mount is the recorded one: ids are used again after an unmount."""
    if info is None or info.target != entry.mountpoint:
        return False
    return (info.type == b"overlay") == (entry.driver is Driver.KERNEL)


def _begin(entry: Entry | None, info: MountInfo | None) -> "Future[None] | None":
    """Ask a mount for its statistics in a thread: an answer that never comes must hang nobody."""
    if info is None or (entry is not None and not _matches(entry, info)):
        return None
    answer: Future[None] = Future()
    Thread(target=_ask, args=(info.target, answer), daemon=True).start()
    return answer


def _ask(target: bytes, answer: "Future[None]") -> None:
    """Complete the future with what statvfs says; the kernel never answers that from a cache."""
    try:
        os.statvfs(target)
        answer.set_result(None)
    except OSError as error:
        answer.set_exception(error)


def _report(entry: Entry | None, info: MountInfo | None, answer: "Future[None] | None", timeout: float) -> Report:
    if entry is not None and answer is None:
        return Report(entry.mountpoint, _absent(entry), entry)
    assert info is not None and answer is not None
    if entry is not None and not entry.alive:
        return Report(info.target, Health.DEAD, entry)
    return Report(info.target, _heard(answer, timeout), entry)


def _absent(entry: Entry) -> Health:
    """Return the health of a mount that is not in our mount namespace."""
    if entry.driver is Driver.KERNEL and entry.alive and entry.namespace != registry.namespace():
        return Health.ELSEWHERE
    if entry.pid == 0 or not entry.alive:
        return Health.UNMOUNTED
    if entry.driver is Driver.KERNEL:  # its server is where no mounts are
        return Health.DETACHED
    try:
        there = {info.id: info for info in mountinfo(entry.pid)}
    except (PermissionError, FileNotFoundError, ProcessLookupError):
        return Health.ELSEWHERE
    return Health.ELSEWHERE if _matches(entry, there.get(entry.mount_id)) else Health.DETACHED


def _heard(answer: "Future[None]", timeout: float) -> Health:
    try:
        answer.result(timeout)
    except TimeoutError:
        return Health.SILENT
    except OSError as error:
        if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
            return Health.DEAD
        if error.errno == errno.EACCES:  # somebody else's, who lets nobody in: the kernel answers, not the server
            return Health.SERVING
        return Health.SILENT
    return Health.SERVING
