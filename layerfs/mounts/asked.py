"""A request to mount that another process has sent: the child of a standby process becomes its sender, as it were.

What is said on the connection (`mounts/asking.py`): BEGUN once there is something to undo, then ENDED and the exit
status; or DECLINED, and the sender does it by itself. If the sender ends before it was answered, SIGINT undoes what was
done.
"""

import array
import fcntl
import os
import signal
import socket
import struct
import sys
from contextlib import suppress
from typing import Final, NoReturn

from layerfs.mounts.asking import DECLINED, HEAD, STREAMS, Decline, Run, is_asked_by, tell_end
from layerfs.sys import peer
from layerfs.sys.title import give_environment, show_words
from layerfs.value import value

_HEAD: Final = struct.Struct(HEAD)
_FREE: Final = 16  # above what we put in its place
_PATIENCE: Final = 10.0  # seconds for a request to arrive; guessed


@value
class Likeness:
    """What a process must have in common with us if we are to do something in its place (`sys/peer.py`)."""

    inherited: bytes
    told: bytes


def take_over(ear: socket.socket, own: Likeness, run: Run) -> NoReturn:
    """Do what is asked on a connection, if it is by somebody like us, and end."""
    status, connection = 1, ear.fileno()
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        words = _take(ear, own)
        is_asked_by(ear.detach())
        sys.argv = words
        status = run(words)
        _flush()
    except SystemExit as end:  # argparse
        status = end.code if isinstance(end.code, int) else 1
    except (Decline, OSError, ValueError, struct.error):
        with suppress(OSError):
            os.write(connection, DECLINED)
        os._exit(1)
    finally:
        _flush()
        tell_end(status)
        os._exit(status)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()


def _take(ear: socket.socket, own: Likeness) -> list[str]:
    """Read a request and become like who sent it; return the words."""
    ear.settimeout(_PATIENCE)
    pid, uid = peer.at(ear)
    if uid != os.geteuid() or pid <= 0 or peer.identity(pid) != own.inherited:
        raise Decline
    head, descriptors = _head(ear)
    umask, ignores_hangup, size, more = _HEAD.unpack(head)
    text = _exactly(ear, size + more)
    ear.settimeout(None)
    environment = text[size:].split(b"\0")[:-1]
    if peer.environment_lines(environment) != own.told:
        raise Decline
    _put_in_place(descriptors)
    os.umask(umask)
    signal.signal(signal.SIGHUP, signal.SIG_IGN if ignores_hangup else signal.SIG_DFL)
    give_environment(environment)
    _end_with(ear.fileno())
    words = text[:size].split(b"\0")[:-1]
    _show(words)
    return [os.fsdecode(word) for word in words]


def _head(ear: socket.socket) -> tuple[bytes, list[int]]:
    """Receive the numbers and the descriptors: the standard streams and the working directory."""
    room = socket.CMSG_SPACE((STREAMS + 1) * array.array("i").itemsize)
    head, controls, _, _ = ear.recvmsg(_HEAD.size, room, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, data in controls:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if len(descriptors) != STREAMS + 1 or len(head) != _HEAD.size:
        raise Decline
    return head, list(descriptors)


def _exactly(ear: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = ear.recv(size)
        if not part:
            raise Decline
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _put_in_place(descriptors: list[int]) -> None:
    *streams, cwd = descriptors
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
    os.fchdir(cwd)
    for fd in descriptors:
        os.close(fd)


def _end_with(connection: int) -> None:
    """Have a SIGINT come, which undoes what was begun, when the other end is closed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETSIG, signal.SIGINT)
    fcntl.fcntl(connection, fcntl.F_SETFL, os.O_ASYNC)


def _show(words: list[bytes]) -> None:
    with suppress(OSError):  # a kernel without CONFIG_CHECKPOINT_RESTORE
        show_words(words)
