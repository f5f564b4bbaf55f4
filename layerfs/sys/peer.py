"""What a process is, in all that its children inherit: whether one may be started on behalf of another.

`cli/program.c` writes the same text of itself.
"""

import _socket as socket  # without what `socket` adds, which takes 10 ms to import
import errno
import os
import select
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from typing import Final

from layerfs.sys.ids import maps_every_id

LINKS: Final = (
    "ns/cgroup", "ns/ipc", "ns/mnt", "ns/net", "ns/pid", "ns/pid_for_children", "ns/time", "ns/time_for_children",
    "ns/user", "ns/uts", "root",
)  # fmt: skip
FILES: Final = ("cgroup", "limits", "oom_score_adj", "loginuid", "attr/current")
AT_START: Final = (b"PYTHON", b"LD_", b"GLIBC_", b"MALLOC_", b"LANG", b"LC_", b"TZ")  # how the names begin
STATUS: Final = frozenset(
    b"Uid Gid Groups CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp Seccomp_filters "
    b"Cpus_allowed Mems_allowed".split()
)
_UCRED: Final = struct.Struct("=3i")  # pid, uid, gid (unix(7), SO_PEERCRED)


def at(connection: socket.socket) -> tuple[int, int]:
    """Return the process at the other end of a connection, as of its beginning (connect or listen), and its user."""
    pid, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid


def identity(pid: int) -> bytes:
    """Return namespaces, root, cgroup, limits, ids, capabilities, filters and priority of a process, as text.

    Raises OSError: it is gone, or may do what we may not.
    """
    return b"\n".join(_lines(f"/proc/{pid}", pid)) + b"\n"


def _lines(base: str, pid: int) -> Iterator[bytes]:
    root = os.stat(f"{base}/root")
    yield b"/ %d %d" % (root.st_dev, root.st_ino)
    for name in LINKS:
        yield os.fsencode(f"{name} {_target(f'{base}/{name}')}")
    for name in FILES:
        yield name.encode() + b" " + _content(f"{base}/{name}")
    for line in _content(f"{base}/status").splitlines():
        if line.partition(b":")[0] in STATUS:
            yield line
    yield b"%d %d" % (os.getpriority(os.PRIO_PROCESS, pid), os.sched_getscheduler(pid))


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:  # a kind of namespace that this kernel has not
        return ""


def _content(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        parts = list(iter(lambda: os.read(fd, 1 << 16), b""))
    except OSError:  # attr/current without a security module
        return b""
    finally:
        os.close(fd)
    return b"".join(parts).partition(b"\0")[0]


def neighbour(besides: bytes) -> int:
    """Return a pidfd of another process of our mount namespace, of the longest-lived that we may look at.

    Those whose name (comm) is `besides` do not count. If there is none, one that we may not look at is taken to be in
    our namespace where that is likely: we are neither root, who makes mount namespaces, nor in a user namespace of our
    own. Raises ProcessLookupError: nobody is.
    """
    own, here, hidden = os.getpid(), os.stat("/proc/self/ns/mnt").st_ino, 0
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        if pid == own:
            continue
        with suppress(OSError), ExitStack() as unless:  # gone
            fd = os.pidfd_open(pid)
            unless.callback(os.close, fd)
            if _has_ended(fd):
                continue
            try:
                there = os.stat(f"/proc/{pid}/ns/mnt").st_ino
            except PermissionError:
                hidden = hidden or pid
                continue
            if there == here and _content(f"/proc/{pid}/comm").rstrip() != besides:
                unless.pop_all()
                return fd
    if hidden and os.geteuid() != 0 and maps_every_id():
        return os.pidfd_open(hidden)
    raise ProcessLookupError(errno.ESRCH, "no other process is in this mount namespace")


def _has_ended(pidfd: int) -> bool:
    """Tell whether a process is a zombie."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def environment_lines(entries: Iterable[bytes]) -> bytes:
    """Return those entries of an environment that a process is told as it starts, and never again."""
    return b"".join(entry + b"\n" for entry in entries if entry.startswith(AT_START))


def program_line(program: bytes) -> bytes:
    """Return what a program is: another after each installation."""
    st = os.stat(program)
    return b"%s %d %d\n" % (program, st.st_ino, int(st.st_mtime))


def socket_name(inherited: bytes, told: bytes, program: bytes) -> bytes:
    """Return the socket's name of a process that is like this, and stands by for a program. Raises OSError: no program.

    It is no proof: whoever is found compares the whole text.
    """
    return short_name(inherited + told + program_line(program)).encode() + b".standby"


def short_name(text: bytes) -> str:
    """Return a hash (FNV-1a) of a text."""
    total = 0xCBF29CE484222325
    for byte in text:
        total = (total ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{total:016x}"
