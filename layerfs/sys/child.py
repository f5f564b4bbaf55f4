"""One command below us: its signals, its end, and what a shell would call its exit status."""

import errno
import os
import signal
from collections.abc import Mapping
from typing import NoReturn

CANNOT_RUN = 126  # POSIX, Shell Command Language, 2.8.2
NOT_FOUND = 127
SIGNALLED = 128
DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What a person or a supervisor sends to a program they started; job control signals act on us as on anybody.
FORWARDED = frozenset(
    {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGWINCH,
        signal.SIGALRM,
    }
)
_WAITED = FORWARDED | {signal.SIGCHLD}
# Python ignores these, and exec would hand that on.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def hold_signals() -> set[signal.Signals | int]:
    """Block what `wait_forwarding` takes, so that nothing is lost until then; return the mask that was."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored, children leave no status
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED))


def wait_forwarding(child: int) -> int:
    """Pass on signals to a child until it ends; return its status as a shell does (128 + n for signal n).

    Needs `hold_signals` before the child was started. A process that is init reaps whatever is left to it, too.
    What the terminal sent (^C) reached the whole process group and is not passed on; what another process sent is.
    """
    while True:
        status = _reap(child)
        if status is not None:
            return status
        received = signal.sigwaitinfo(_WAITED)
        if _is_for_the_child(received):
            os.kill(child, received.si_signo)


def _is_for_the_child(received: signal.struct_siginfo) -> bool:
    """Tell whether we alone got a signal: a process sent it, or the terminal hung up on its session's leader."""
    if received.si_signo == signal.SIGCHLD:
        return False
    return received.si_code <= 0 or received.si_signo == signal.SIGHUP  # SI_USER, SI_QUEUE, SI_TKILL


def _reap(child: int) -> int | None:
    """Reap all children that ended; return the status of the one we wait for, once it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            found = as_shell(os.waitstatus_to_exitcode(status))


def as_shell(code: int) -> int:
    """Return what a shell makes of an exit code that is negative for signals."""
    return code if code >= 0 else SIGNALLED - code


def execute(
    command: tuple[bytes, ...], environment: Mapping[bytes, bytes], mask: set[signal.Signals | int]
) -> NoReturn:
    """Become `command`, searched on the environment's PATH, with signals as they were before `hold_signals`.

    Raises OSError when it cannot be run, the first that is about a file that is there; the process is then fit for
    nothing but saying so. (os.execvpe imports a module, which after pivot_root would be the tree's, and takes a
    directory that may not be searched for a command that may not be run.)
    """
    for number in _IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    refused: OSError | None = None
    for path in candidates(command[0], environment.get(b"PATH", DEFAULT_PATH)):
        try:
            os.execve(path, command, environment)
        except OSError as error:
            if refused is None and os.path.lexists(path):
                refused = error
    raise refused or FileNotFoundError(errno.ENOENT, "not found", command[0])


def candidates(name: bytes, path: bytes) -> list[bytes]:
    """Return the paths that a command's name may stand for."""
    if b"/" in name:
        return [name]
    return [os.path.join(directory or b".", name) for directory in path.split(b":")]


def reason(error: OSError) -> str:
    """Return why a command cannot be run: a file that is there and yet is not found lacks something else."""
    if error.errno == errno.ENOENT and error.filename is not None and os.path.lexists(error.filename):
        return "its interpreter or loader is missing in the tree"
    return error.strerror or str(error)


def status_of(error: OSError) -> int:
    """Return the exit status that stands for a command that could not be run."""
    return NOT_FOUND if error.errno in (errno.ENOENT, errno.ENOTDIR) else CANNOT_RUN
