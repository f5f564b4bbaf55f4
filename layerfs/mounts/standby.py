"""A process that stands by after a mount, so that the next one of the same user imports nothing.

    layerfs mount (cold): imports, mounts, forks a server; then forks once more: the child stands by
    layerfs mount (warm): cli/program.c, which is no Python, connects; standby forks; the child mounts, tells, ends

Who asks must be like us in all that a child inherits (`sys/peer.py`), and gives the rest: words, environment, working
directory, standard streams, umask. So nothing comes from whoever asked first. A request is read and judged by the
child, so nobody can delay another. The servers are no children that need us: killed, we take no mount with us. We end
after ten minutes without a request, with the last other process of our mount namespace, which would stay for us alone,
and at the latest a minute after our files or our socket have gone.
"""

import errno
import fcntl
import gc
import os
import select
import signal
import socket
import stat
import sys
from contextlib import suppress
from importlib import import_module
from time import monotonic
from typing import Final

from layerfs.mounts.asked import Likeness, take_over
from layerfs.mounts.asking import Run
from layerfs.sys import peer
from layerfs.sys.descriptors import STDIO, close_all_but
from layerfs.sys.files import content
from layerfs.sys.limits import undo_raise
from layerfs.sys.prctl import set_name
from layerfs.sys.private import runtime_directory
from layerfs.sys.title import clear_environment, show_words

SECONDS: Final = 600.0  # without a request until we end
LOOKS: Final = (1.0, 60.0)  # seconds between two looks at whether we are still of use: twice as many each time, at most
FRESH: Final = 1.0  # seconds for which requests are answered without another look
_NAME: Final = b"layerfs-standby"
# What a server imports when the first requests come.
WARM: Final = (
    "json", "layerfs.fuse.serve", "layerfs.mounts.choice", "layerfs.union.attrs", "layerfs.union.copyup",
    "layerfs.union.data", "layerfs.union.mutate", "layerfs.union.removal", "layerfs.union.rename",
)  # fmt: skip
WARM_LANE: Final = ("layerfs.fuse.reading", "layerfs.fuse.tables", "layerfs.union.front")  # where the lane is compiled
_QUEUE: Final = 256  # connections that wait for the one before; cut by net.core.somaxconn


def stand_by(program: bytes, run: Run) -> None:
    """Be the process that stands by, until it is of no use; `program` is what cli/program.c starts.

    Returns at once if there is another, or nobody who could ask. Raises OSError where there can be none: every mount
    is then as the first.
    """
    _forget_caller()
    own = Likeness(peer.identity(os.getpid()), peer.environment_lines(_environment()))
    name = peer.socket_name(own.inherited, own.told, program)
    with suppress(FileExistsError, FileNotFoundError, ProcessLookupError):
        standby = Standby(os.path.join(runtime_directory(), name), own, program, run)
        standby.wait()


def _warm() -> None:
    """Import what a mount needs, and find once what every mount would find again."""
    from layerfs.fuse.config import ending_signals
    from layerfs.fuse.natively import compiled_part
    from layerfs.spec.options import generic_words
    from layerfs.sys import mountinfo, process_id, reach
    from layerfs.sys.mounts import MountFlag

    for name in WARM + WARM_LANE * (compiled_part() is not None):
        import_module(name)
    for find in (ending_signals, compiled_part, process_id.boot):
        find()
    generic_words(MountFlag.NONE)
    for kinds in (reach.SERVED, (b"overlay",)):
        mountinfo.lines_of(kinds)


def _environment() -> list[bytes]:
    """Return the environment that we were started with: in the locale C, Python has set LC_CTYPE since (PEP 538)."""
    return content("/proc/self/environ").split(b"\0")


def _forget_caller() -> None:
    """Keep nothing of whoever started us: session, terminal, descriptors, working directory, environment."""
    gc.collect()  # what closes descriptors does so now
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in STDIO:
        os.dup2(null, fd)
    close_all_but(STDIO)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o077)
    undo_raise()  # else nobody would be like us where the soft limit is below the hard one, as it is nearly everywhere
    set_name(_NAME)


class Standby:
    """The process that stands by."""

    def __init__(self, path: bytes, own: Likeness, program: bytes, run: Run) -> None:
        """Take the place at `path`.

        Raises FileExistsError if another has it, FileNotFoundError if somebody takes it away at once,
        ProcessLookupError if nobody else is in our mount namespace.
        """
        self._path, self._own, self._program, self._run = path, own, program, run
        self._what = peer.program_line(program)
        self._neighbour = peer.neighbour(_NAME)
        self._listener = _listen(path)
        self._socket = _which(path)
        self._seen: list[tuple[str, int, int]] = []
        self._looked = monotonic()

    def wait(self) -> None:
        """Fork for each request, until we are of no use any more."""
        with suppress(OSError):
            show_words([_NAME])
        clear_environment()
        _warm()
        self._seen = _versions()
        gc.freeze()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
        asked = monotonic()
        pause, longest = LOOKS
        request = {self._listener.fileno()}
        while monotonic() < asked + SECONDS:
            ready = _which_are_ready([*request, self._neighbour], pause)
            if (ready != request or monotonic() > self._looked + FRESH) and not self._is_of_use():
                break
            if ready >= request:
                asked = monotonic()
                pause, longest = LOOKS
                self._answer()
            else:
                pause = min(2 * pause, longest)
        if self._has_place():
            os.unlink(self._path)

    def _answer(self) -> None:
        try:
            with self._listener.accept()[0] as connection:
                if os.fork() == 0:
                    self._listener.close()
                    os.close(self._neighbour)
                    take_over(connection, self._own, self._run)
        except OSError:  # they have gone; or there is no memory: they will start by themselves
            pass

    def _is_of_use(self) -> bool:
        self._looked = monotonic()
        try:
            same = peer.program_line(self._program) == self._what and _versions() == self._seen
            same = same and peer.identity(os.getpid()) == self._own.inherited  # somebody may have moved us
        except OSError:
            return False
        return same and self._has_place() and self._has_neighbour()

    def _has_neighbour(self) -> bool:
        """Tell whether the mount namespace has a process other than those that stand by."""
        if _which_are_ready([self._neighbour], 0):
            try:
                other = peer.neighbour(_NAME)
            except OSError:
                return False
            os.dup2(other, self._neighbour, inheritable=False)
            os.close(other)
        return True

    def _has_place(self) -> bool:
        try:
            return _which(self._path) == self._socket
        except OSError:
            return False


def _which_are_ready(descriptors: list[int], seconds: float) -> set[int]:
    """Wait for any of some descriptors to be readable: a listener has a connection, a pidfd's process has ended."""
    poll = select.poll()
    for fd in descriptors:
        poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll(int(seconds * 1000))}


def _listen(path: bytes) -> socket.socket:
    """Listen at a path where nobody else does; FileExistsError if somebody does."""
    listener, other = (socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(2))
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        near = f"/proc/self/fd/{directory}/{os.path.basename(path).decode()}"  # a socket's path has 107 bytes at most
        fcntl.flock(directory, fcntl.LOCK_EX)
        with other:
            if other.connect_ex(near) == 0:
                raise FileExistsError(errno.EEXIST, "another process stands by", path)
        with suppress(FileNotFoundError):
            os.unlink(path)
        listener.bind(near)
        listener.listen(_QUEUE)
        listener.setblocking(False)
        return listener
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(directory)


def _which(path: bytes) -> tuple[int, int]:
    """Return what tells a socket from another that came to its place; FileExistsError if no socket is there."""
    st = os.lstat(path)
    if not stat.S_ISSOCK(st.st_mode):
        raise FileExistsError(errno.EEXIST, "another file is in the place of the socket", path)
    return st.st_ino, st.st_ctime_ns


def _versions() -> list[tuple[str, int, int]]:
    """Return what our files are."""
    found = []
    for name, module in sorted(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path and name.partition(".")[0] == "layerfs":
            st = os.stat(path)
            found.append((path, st.st_ino, st.st_mtime_ns))
    return found
