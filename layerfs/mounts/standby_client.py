"""Asking a process that stands by (`mounts/standby.py`), from Python; `cli/program.c` asks so for `layerfs mount`.

    ask --+-- None: nobody like us stands by, or answers in time; nothing has happened, and we do it by ourselves
          +-- BROKEN: whoever had begun has ended without a word
          +-- the exit status

Nothing is forked here, so a thread may ask. Who stands by is found in our runtime directory, by all that a child
inherits (`sys/peer.py`), and compares that with us; all else it is given. Light to import, as each start waits for it.
"""

import _socket as socket  # without what `socket` adds, which takes 10 ms to import
import os
import struct
from collections.abc import Iterable, Sequence
from typing import Final

from layerfs.mounts.asking import BEGUN, ENDED, HEAD, STREAMS
from layerfs.mounts.standby_start import program
from layerfs.sys import peer
from layerfs.sys.descriptors import STDIO
from layerfs.sys.files import content
from layerfs.sys.private import existing_runtime_directory

BROKEN: Final = -1
PATIENCE: Final = 10  # s until who stands by has begun, as in program.c: one that was stopped holds nobody for ever
_TIME: Final = struct.Struct("@ll")  # struct timeval
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_HANGUP: Final = 1  # the bit of SIGHUP in a set of signals
_SET_BY_PYTHON: Final = b"LC_CTYPE="  # in the locale C (PEP 538)


class Unlike(Exception):
    """Raised where nobody who was started as we were is as we are now."""


def ask(words: Sequence[bytes], streams: tuple[int, int, int] = STDIO) -> int | None:
    """Have words done by a process that stands by, with this process's environment, directory and umask.

    `streams` become its standard streams: it has them open until it detaches, and for as long as it is stopped. If we
    are interrupted, what it has begun is undone before this returns.
    """
    asked = program()
    if asked is None:
        return None
    try:
        environment, own = _environment(), peer.identity(os.getpid())
        name = peer.socket_name(own, peer.environment_lines(environment), asked)
        connection = _reach(name)
    except (OSError, Unlike):
        return None
    try:
        return _hear(connection) if _request(connection, words, environment, streams) else None
    except BaseException:
        _wait_for_the_undoing(connection)
        raise
    finally:
        connection.close()


def _environment() -> list[bytes]:
    """Return our environment, what a process is told as it starts (`peer.AT_START`) first. Unlike if that has changed.

    The locale that Python may have set was not told.
    """
    began = [entry for entry in content("/proc/self/environ").split(b"\0") if entry.startswith(peer.AT_START)]
    now = [b"%s=%s" % pair for pair in os.environb.items()]
    changed = set(began) ^ {entry for entry in now if entry.startswith(peer.AT_START)}
    if any(not entry.startswith(_SET_BY_PYTHON) for entry in changed):
        raise Unlike
    return began + [entry for entry in now if not entry.startswith(peer.AT_START)]


def _reach(name: bytes) -> socket.socket:
    """Connect to who stands by, and see that it is of our own user. Raises OSError: nobody, or somebody else."""
    directory = os.open(existing_runtime_directory(), _DIRECTORY)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(None)  # whatever this program's default is: what follows bounds each step
        _set_patience(connection, PATIENCE)
        connection.connect(b"/proc/self/fd/%d/%s" % (directory, name))  # a socket's path has 107 bytes at most
        if peer.at(connection)[1] != os.geteuid():
            raise PermissionError
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(directory)
    return connection


def _set_patience(connection: socket.socket, seconds: int) -> None:
    """Wait so many seconds for the other end, and for ever with 0."""
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, _TIME.pack(seconds, 0))


def _request(
    connection: socket.socket, words: Iterable[bytes], environment: Iterable[bytes], streams: Sequence[int]
) -> bool:
    """Send numbers and descriptors, then words and environment; False if they were not taken."""
    said, told = (b"".join(entry + b"\0" for entry in entries) for entries in (words, environment))
    try:
        cwd = os.open(b".", _DIRECTORY)
    except OSError:
        return False
    given = struct.pack(f"={STREAMS + 1}i", *streams, cwd)
    try:
        head = struct.pack(HEAD, *_umask_and_hangup(), len(said), len(told))
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, given)]
        if connection.sendmsg([head], rights, socket.MSG_NOSIGNAL) != len(head):
            return False
        connection.sendall(said + told, socket.MSG_NOSIGNAL)
    except (OSError, KeyError):  # it declines, is stopped, or has ended; a stream of ours is closed; an old kernel
        return False
    finally:
        os.close(cwd)
    return True


def _umask_and_hangup() -> tuple[int, bool]:
    """Return the umask, without changing it for a moment as umask(2) does, and whether SIGHUP is ignored."""
    lines = content("/proc/self/status").splitlines()
    fields = {name: value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    return int(fields[b"Umask"], 8), bool(int(fields[b"SigIgn"], 16) & _HANGUP)


def _hear(connection: socket.socket) -> int | None:
    begun = False
    while (said := _byte(connection)) == BEGUN:
        begun = True
        _set_patience(connection, 0)
    status = _byte(connection) if said == ENDED else b""
    if status:
        return status[0]
    return BROKEN if begun else None


def _byte(connection: socket.socket) -> bytes:
    """Return what is said next; nothing at the end, and where that takes too long."""
    try:
        return connection.recv(1)
    except OSError:
        return b""


def _wait_for_the_undoing(connection: socket.socket) -> None:
    """Have what was begun undone, as when this process ends, and wait until that is done."""
    try:
        connection.shutdown(socket.SHUT_WR)
        _set_patience(connection, PATIENCE)
        while _byte(connection):
            pass
    except OSError:  # it has ended
        pass
