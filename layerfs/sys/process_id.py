"""Which process is meant, in words that any other process of the host can check, also another user's.

A pid is used again; with the time of the process's start and the boot it is not. /proc/PID/stat is readable to all,
unless /proc is mounted with `hidepid`: a process that is hidden counts as ended. Reading it may wait, and be deaf to
every signal, until that process's execve(2) is over, so no server reads that of a client whose request it holds.
"""

import os
from contextlib import suppress
from functools import cache
from typing import Final

from layerfs.sys.files import content
from layerfs.value import value

STARTED_FIELD: Final = 19  # of /proc/PID/stat after the name: starttime, field 22 of proc_pid_stat(5)
FIRST_PIDS: Final = 0xEFFFFFFC  # linux/proc_ns.h: PROC_PID_INIT_INO; from this pid namespace all are seen
_BOOT: Final = "/proc/sys/kernel/random/boot_id"
_FIELDS: Final = 4


def birth(pid: int) -> int:
    """Return when a process started [clock ticks after boot], 0 if there is none or it is a zombie."""
    try:
        words = content(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if words[0] in b"ZX" else int(words[STARTED_FIELD])


@value
class ProcessId:
    """One process: the boot, the pid namespace by its number, the pid there, when it started [clock ticks]."""

    boot: bytes
    namespace: int
    pid: int
    born: int

    def spell(self) -> bytes:
        """Return the words that `parse` takes."""
        return b"%s %d %d %d" % (self.boot, self.namespace, self.pid, self.born)

    @property
    def lasts(self) -> bool:
        """Whether the process runs, as far as it can be seen from here: not from a container's pid namespace."""
        if self.boot != boot():
            return False
        if self.namespace == pid_namespace():
            return birth(self.pid) == self.born
        return any(name.isdigit() and self._is(int(name)) for name in os.listdir("/proc"))

    def _is(self, pid: int) -> bool:
        """Tell whether a process of our namespace is the one that is meant, by its pid in the innermost one."""
        return _pids(pid)[-1:] == [self.pid] and birth(pid) == self.born


def _pids(pid: int | str) -> list[int]:
    """Return the pids of a process, from the namespace of /proc to its own; none if it is gone."""
    try:
        status = content(f"/proc/{pid}/status")
    except (FileNotFoundError, ProcessLookupError):
        return []
    line = next((line for line in status.splitlines() if line.startswith(b"NSpid:")), b"")
    return [int(word) for word in line.split()[1:]]


@cache
def names_alike() -> bool:
    """Tell whether /proc names processes by the pids that we have: it may be that of another pid namespace."""
    return _pids("self") == [os.getpid()]


def parse(words: bytes) -> ProcessId | None:
    """Return what `ProcessId.spell` wrote; None for anything else."""
    fields = words.split(b" ")
    if len(fields) != _FIELDS or not all(field.isdigit() and len(field) < _DIGITS for field in fields[1:]):
        return None
    return ProcessId(fields[0], *map(int, fields[1:]))


_DIGITS: Final = 20
_passed_on: ProcessId | None = None  # what a parent that outlasts us has passed on


def own_process() -> ProcessId:
    """Return this process; or the parent that passed its own on (`pass_on_own_process`), since it outlasts us."""
    if _passed_on is not None:
        return _passed_on
    return ProcessId(boot(), pid_namespace(), os.getpid(), birth(os.getpid()))


def pass_on_own_process() -> None:
    """Have `own_process` mean this process in all that it forks from now on, too: it outlasts them."""
    global _passed_on
    _passed_on = own_process()


@cache
def boot() -> bytes:
    """Return the id of this boot."""
    return content(_BOOT).strip()


def pid_namespace() -> int:
    """Return the number of this process's pid namespace."""
    return os.stat("/proc/self/ns/pid").st_ino


def mount_namespaces() -> set[int] | None:
    """Return the mount namespaces that processes are in [inode number of /proc/PID/ns/mnt], as seen from here.

    Of another user's processes nothing is known, so they count for none. None where not all processes are seen.
    """
    if pid_namespace() != FIRST_PIDS:
        return None
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):  # it has ended, or is somebody else's
            found.add(os.stat(f"/proc/{name}/ns/mnt").st_ino)
    return found
