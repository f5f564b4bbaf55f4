"""What layerfs has mounted here: one small JSON file for each mount, in a runtime directory.

A hint, never the truth: what is mounted is in mountinfo, who is alive in /proc. `layerfs.mounts.health` crosses them.
Entries are named by mount id, which no two mounts have at once (proc_pid_fdinfo(5)), and by when the mount was made:
the kernel gives an id again while the server of the mount that had it still writes back, or serves a copy elsewhere.
Of two records with one id the newer is the mount's. The older goes once its server does; `layerfs umount` removes what
a crash left.
"""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from layerfs.model import Driver, Stack
from layerfs.sys.files import open_regular, write_whole
from layerfs.sys.mountinfo import mount_ids
from layerfs.sys.private import runtime_directories, runtime_directory
from layerfs.sys.process_id import FIRST_PIDS, ProcessId, boot, mount_namespaces, pid_namespace
from layerfs.sys.process_id import birth as birth
from layerfs.sys.trust import mount_of
from layerfs.value import fields_of, value

SUFFIX: Final = b".json"
MICROSECONDS: Final = 1_000_000  # in a second


@value
class MountRecord:
    """One recorded mount. `pid` and `born` [clock ticks after boot] identify the server; both are 0 without one.

    FUSE has a server always, the kernel where it serves images below the overlay (`layerfs.mounts.underlay`).

    `namespace` is the mount namespace it was made in, by the inode number of /proc/PID/ns/mnt. `started` in seconds
    since 1970. `options` are the generic mount options, for people to read; `image` is the topmost layer, if that is a
    file. `pids` is the pid namespace in which the server is `pid`, 0 where an older version did not say.
    """

    mountpoint: bytes
    mount_id: int
    namespace: int
    driver: Driver
    why: str
    stack: Stack
    pid: int
    born: int
    started: float
    options: str
    log: bytes | None = None
    image: bytes | None = None
    pids: int = 0

    @property
    def alive(self) -> bool:
        """Whether the recorded server still runs, or may, being out of sight; where there is none, none is needed."""
        if self.pid == 0 or self.is_of_these_pids:
            return self.pid == 0 or birth(self.pid) == self.born
        return pid_namespace() != FIRST_PIDS or ProcessId(boot(), self.pids, self.pid, self.born).lasts

    @property
    def is_of_these_pids(self) -> bool:
        """Whether `pid` means the server here, and not in a container's pid namespace."""
        return self.pids in (0, pid_namespace())


def new_record(mountpoint: bytes, driver: Driver, why: str, stack: Stack, options: str, server: int = 0) -> MountRecord:
    """Return the record of a mount that was just made; for FUSE this process is the server."""
    pid = os.getpid() if driver is Driver.FUSE else server
    born = birth(pid) if pid else 0
    return MountRecord(
        mountpoint,
        mount_id(mountpoint),
        namespace(),
        driver,
        why,
        stack,
        pid,
        born,
        started=time.time(),
        options=options,
        image=None if _is_directory(stack.lowers[0]) else stack.lowers[0],
        pids=pid_namespace(),
    )


def _is_directory(path: bytes) -> bool:
    """Tell whether a layer is a directory, without asking its server: that may be this very process."""
    try:
        os.close(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def namespace() -> int:
    """Return the number of this process's mount namespace."""
    return os.stat("/proc/self/ns/mnt").st_ino


def mount_id(mountpoint: bytes) -> int:
    """Return the id of the mount at a path without asking its server anything: O_PATH opens nothing."""
    fd = os.open(mountpoint, os.O_PATH | os.O_CLOEXEC)
    try:
        if not (number := mount_of(fd)):
            raise FileNotFoundError(errno.ENOENT, "no /proc to say it", mountpoint)
        return number
    finally:
        os.close(fd)


def save(record: MountRecord) -> None:
    """Write a record, whole or not at all."""
    from json import dumps  # not needed by those who only ask

    write_whole(_path(runtime_directory(), record), dumps(_to_json(record)).encode())


def remove(record: MountRecord) -> None:
    """Remove a record."""
    for directory in runtime_directories():
        path = _path(directory, record)
        if _load(path) == record:
            with suppress(FileNotFoundError):
                os.unlink(path)


def remove_own() -> None:
    """Remove the records of what this process served."""
    pid = os.getpid()
    for record in records():
        if record.pid == pid and record.born == birth(pid):
            remove(record)


def records() -> list[MountRecord]:
    """Return all recorded mounts of this user, oldest first; files that are no records are passed over."""
    return sorted(_records(), key=lambda record: record.started)


def current() -> dict[int, MountRecord]:
    """Return the recorded mounts of this user by their ids; of two records with one id, the newer."""
    return {record.mount_id: record for record in records()}


def prune() -> None:
    """Remove records of mounts that are gone, having been unmounted past us or after their server's crash.

    In another mount namespace the mount that a crash left may still stand, and is told from others by its record.
    """
    recorded = records()  # first: a mount is made before its record
    mounted = mount_ids()
    newest = {record.mount_id: record for record in recorded}
    here, elsewhere = namespace(), list[MountRecord]()
    for record in recorded:
        if record.pid != 0 and record.alive:
            continue
        if newest[record.mount_id] != record or (record.namespace == here and record.mount_id not in mounted):
            remove(record)
        elif record.namespace != here and record.pid != 0:
            elsewhere.append(record)
    if elsewhere and (lasting := mount_namespaces()) is not None:
        for record in elsewhere:
            if record.namespace not in lasting:
                remove(record)


def prune_if_need_be() -> None:
    """Do what `prune` does, unless each record is by its name that of a mount which is there: no file is then read.

    One that is only by chance named as a mount of ours, being of another mount namespace, waits for the next `prune`.
    """
    named = [name.partition(b"-")[0] for place in runtime_directories() for name in _names(place) if _is_record(name)]
    mounted = mount_ids()
    if len(set(named)) < len(named) or any(not name.isdigit() or int(name) not in mounted for name in named):
        prune()


def _is_record(name: bytes) -> bool:
    return name.endswith(SUFFIX)


def _records() -> Iterator[MountRecord]:
    for directory in runtime_directories():
        for name in _names(directory):
            if _is_record(name) and (record := _load(os.path.join(directory, name))):
                yield record


def _names(directory: bytes) -> list[bytes]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:  # somebody has moved it away this moment
        return []


def key(record: MountRecord) -> bytes:
    """Return a name that no other mount's record ever has."""
    return b"%d-%d" % (record.mount_id, record.started * MICROSECONDS)


def _path(directory: bytes, record: MountRecord) -> bytes:
    return os.path.join(directory, key(record) + SUFFIX)


def _load(path: bytes) -> MountRecord | None:
    """Read a record; None where there is none, or none of ours."""
    from json import loads

    try:
        with open(open_regular(path), "rb") as file:
            return _from_json(loads(file.read()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _to_json(value: Any) -> Any:
    """Return a record in JSON's types; bytes as file names are decoded everywhere (os.fsdecode)."""
    match value:
        case MountRecord():
            return {name: _to_json(getattr(value, name)) for name in fields_of(value)}
        case Stack():
            return {name: _to_json(getattr(value, name)) for name in fields_of(value)}
        case Driver():
            return value.value
        case bytes():
            return os.fsdecode(value)
        case tuple():
            return [_to_json(part) for part in value]
    return value


def _from_json(raw: dict[str, Any]) -> MountRecord:
    """Return what _to_json was given; raises KeyError, TypeError or ValueError for anything else."""
    stack = raw.pop("stack")
    log = raw.pop("log")
    image = raw.pop("image", None)
    return MountRecord(
        mountpoint=os.fsencode(raw.pop("mountpoint")),
        driver=Driver(raw.pop("driver")),
        stack=Stack(
            lowers=tuple(os.fsencode(lower) for lower in stack["lowers"]),
            upper=_encode(stack["upper"]),
            work=_encode(stack["work"]),
            offset=int(stack["offset"]),
        ),
        log=_encode(log),
        image=_encode(image),
        **raw,
    )


def _encode(path: str | None) -> bytes | None:
    return None if path is None else os.fsencode(path)
