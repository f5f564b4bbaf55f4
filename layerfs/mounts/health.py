"""What is really there: the registry's records crossed with mountinfo, /proc and an answer from the mount itself."""

import errno
import os
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from threading import Thread
from typing import Final

from layerfs.model import Driver
from layerfs.mounts import registry
from layerfs.mounts.registry import Record
from layerfs.sys.mounts import MountInfo, mountinfo

FUSE_TYPE: Final = b"fuse.layerfs"
TIMEOUT: Final = 2.0  # s; a mount that takes longer to answer one statfs is in trouble; guessed


class Health(Enum):
    """How a mount is."""

    SERVING = "serving"
    SILENT = "silent"  # the server lives but does not answer
    DEAD = "dead"  # the server is gone, the mount remains: "Transport endpoint is not connected"
    UNMOUNTED = "unmounted"  # the record remains
    DETACHED = "detached"  # unmounted, but still served: for open files, or for a copy in another mount namespace
    ELSEWHERE = "elsewhere"  # in another mount namespace


@dataclass(frozen=True, slots=True)
class Report:
    """One mount: where it is, how it is, and what the registry says of it (a stranger's mount has no record)."""

    mountpoint: bytes
    health: Health
    record: Record | None = None


def survey(timeout: float = TIMEOUT) -> list[Report]:
    """Return all mounts of layerfs that this process can see, recorded ones first. Asks all of them at once."""
    mounted = {info.id: info for info in mountinfo()}
    recorded = registry.records()
    ours = {record.mount_id for record in recorded if _matches(record, mounted.get(record.mount_id))}
    strangers = [info for info in mounted.values() if info.type == FUSE_TYPE and info.id not in ours]
    questions: list[tuple[Record | None, MountInfo | None]] = []
    questions += [(record, mounted.get(record.mount_id)) for record in recorded]
    questions += [(None, info) for info in strangers]
    pending = [_begin(record, info) for record, info in questions]
    return [_report(record, info, answer, timeout) for (record, info), answer in zip(questions, pending, strict=True)]


def _matches(record: Record, info: MountInfo | None) -> bool:
    """Tell whether a mount is the recorded one: ids are used again after an unmount."""
    if info is None or info.target != record.mountpoint:
        return False
    return (info.type == b"overlay") == (record.driver is Driver.KERNEL)


def _begin(record: Record | None, info: MountInfo | None) -> "Future[None] | None":
    """Ask a mount for its statistics in a thread: an answer that never comes must hang nobody."""
    if info is None or (record is not None and not _matches(record, info)):
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


def _report(record: Record | None, info: MountInfo | None, answer: "Future[None] | None", timeout: float) -> Report:
    if record is not None and answer is None:
        return Report(record.mountpoint, _absent(record), record)
    assert info is not None and answer is not None
    if record is not None and not record.alive:
        return Report(info.target, Health.DEAD, record)
    return Report(info.target, _heard(answer, timeout), record)


def _absent(record: Record) -> Health:
    """Return the health of a mount that is not in our mount namespace."""
    if record.driver is Driver.KERNEL and record.alive and record.namespace != registry.namespace():
        return Health.ELSEWHERE
    if record.pid == 0 or not record.alive:
        return Health.UNMOUNTED
    if record.driver is Driver.KERNEL:  # its server is where no mounts are
        return Health.DETACHED
    try:
        there = {info.id: info for info in mountinfo(record.pid)}
    except (PermissionError, FileNotFoundError, ProcessLookupError):
        return Health.ELSEWHERE
    return Health.ELSEWHERE if _matches(record, there.get(record.mount_id)) else Health.DETACHED


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
