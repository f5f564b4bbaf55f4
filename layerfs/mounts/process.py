"""The process that serves one FUSE mount: detached from its parent, recorded, and nothing left at its end."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from layerfs.errors import LayerfsError, Unsupported
from layerfs.fuse.config import Idle, ServeConfig, ending_signals, hold_signals
from layerfs.model import Driver
from layerfs.mounts import registry
from layerfs.mounts.starter import Ready
from layerfs.spec.options import MountRequest, generic_words
from layerfs.sys import logs
from layerfs.sys.mountinfo import DEAD
from layerfs.sys.mounts import MountFlag, unmount
from layerfs.sys.private import runtime_directory
from layerfs.value import replace, value

if TYPE_CHECKING:
    import logging

    from layerfs.union.union import Union

STDERR: Final = 2
LOG_SIZE: Final = 1 << 20  # bytes of a log that nobody asked for, kept twice: a bug must not fill /run; guessed


@value
class Process:
    """How the server runs. Without `log` [absolute] warnings go to the host's log, or a file beside the record."""

    foreground: bool = False
    debug: bool = False
    log: bytes | None = None
    idle: Idle | None = None


def open_log(path: bytes) -> int:
    """Open the log that was asked for while the caller can still hear that it cannot be opened."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def open_descriptors() -> list[int]:
    """Return this process's descriptors beyond stdio, having made sure that those three are taken.

    Else the device might become descriptor 0, and be lost when the server lets go of its stdio.
    """
    for fd in range(STDERR + 1):
        if not _is_open(fd):
            os.open(os.devnull, os.O_RDWR)
    try:
        found = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        raise Unsupported("/proc is not mounted, and layerfs reaches files by it", "mount -t proc proc /proc") from None
    return [fd for fd in map(int, found) if fd > STDERR and _is_open(fd)]


def _is_open(fd: int) -> bool:
    """Tell the descriptors that stay from the one that listing them took: its number will be somebody else's."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@value
class ServerHooks:
    """What a server does beside serving, whose mount is nowhere: `begin` comes first, `end` last.

    `log` is where it may write.
    """

    begin: Callable[[], None]
    end: Callable[[], None]
    log: bytes | None = None


def hooks_of(process: Process, inherited: list[int]) -> ServerHooks:
    """Return how a server begins apart from its caller, detached and logging, and ends without records."""
    if process.log is not None:
        os.close(open_log(process.log))  # refused while the caller listens

    def begin() -> None:
        redirect_stdio(None if process.log is None else open_log(process.log))
        for fd in inherited:
            os.close(fd)
        gc.enable()  # the command line began without
        start_logging(process, log_of(process, os.getpid()))

    return ServerHooks(begin, registry.remove_own, process.log)


def log_of(process: Process, server: int) -> bytes | None:
    """Return where such a server logs."""
    return process.log or _beside_records(b"images-%d.log" % server)


class Server:
    """A mounted FUSE device, the union behind it, and the record that tells of both."""

    def __init__(self, request: MountRequest, why: str, union: "Union", device: int) -> None:
        self._request = request
        self._why = why
        self._union = union
        self._device = device  # -1 once somebody else owns it, and the union too
        self._mount_id = registry.mount_id(request.mountpoint)

    def run_apart(self, process: Process, log: int | None, inherited: list[int], ready: Ready) -> None:
        """Be the server's process, from the fork to the end: detach, record, be ready, serve."""
        os.setsid()
        os.chdir("/")
        with self._recorded(process) as record:
            self._union.claim()  # which names our parent so far
            redirect_stdio(log)
            for fd in inherited:
                os.close(fd)
            ready()
            with suppress(OSError):  # a mount is served whatever becomes of the records
                registry.prune_if_need_be()
            self._serve(process, record)

    def let_go(self) -> None:
        """Close our copy of the device, which another process serves: if that one dies, clients get an error."""
        os.close(self._device)
        self._device = -1

    def run(self, process: Process, log: int | None) -> None:
        """Serve in this process until the end; with `log` that is where stderr goes meanwhile."""
        terminal = os.dup(STDERR)
        try:
            if log is not None:
                os.dup2(log, STDERR)
            with self._recorded(process) as record:
                self._serve(process, record)
        finally:
            os.dup2(terminal, STDERR)
            os.close(terminal)

    def unmount(self) -> None:
        """Close what is still ours and take the mount away, unless it is gone or another has taken its place.

        That may bear our mount's number (the kernel gives numbers out again), but ours is dead by now.
        """
        device, self._device = self._device, -1
        if device >= 0:
            os.close(device)
            self._union.close()
        with suppress(OSError):  # another unmounts it at this moment
            if self._is_there() and _is_dead(self._request.mountpoint):
                unmount(self._request.mountpoint, lazy=True)

    def _is_there(self) -> bool:
        """Tell whether the mount at our mountpoint is ours."""
        try:
            return registry.mount_id(self._request.mountpoint) == self._mount_id
        except OSError:  # the mountpoint is gone, and with it the mount
            return False

    def _only_ours(self, idle: Idle) -> Idle:
        """Keep an idle server, whose mount somebody detached, from unmounting what stands there now."""
        return replace(idle, leave=lambda unused: idle.leave(lambda: self._is_there() and unused()))

    @contextmanager
    def _recorded(self, process: Process) -> Iterator[registry.MountRecord]:
        """Have the mount in the registry while it lasts, and leave neither mount nor record."""
        hold_signals()
        request = self._request
        words = ",".join(generic_words(request.attach.flags))
        record = registry.new_record(request.mountpoint, Driver.FUSE, self._why, request.stack, words)
        record = replace(record, log=process.log or _default_log(record))
        try:
            with suppress(OSError):  # no runtime directory: a mount that `status` does not know is better than none
                registry.save(record)
            yield record
        finally:
            self.unmount()
            registry.remove(record)

    def _serve(self, process: Process, record: registry.MountRecord) -> None:
        """Import what is heavy and serve until the end; whatever goes wrong is logged."""
        os.umask(0)  # the caller's umask was applied by the kernel; ours must not be
        try:
            from layerfs.fuse.serve import serve

            gc.enable()  # the command line began without
            idle = process.idle and self._only_ours(process.idle)
            flags = self._request.attach.flags
            config = ServeConfig(
                record.mountpoint,
                read_only=self._request.read_only,
                sync=bool(flags & MountFlag.SYNCHRONOUS),
                dirsync=bool(flags & MountFlag.DIRSYNC),
                debug=process.debug,
                lane=self._request.attach.lane,
                idle=idle,
            )
            device, self._device = self._device, -1
            _forget_log(process, record.log)
            logs.begin_later(partial(start_logging, process, record.log))
            # In the foreground the exit status says how it ended, and an upper has marks of ours that go then. And only
            # root can unmount what the layers are on, and so needs them at once.
            waited_for = process.foreground or self._request.stack.upper is not None or os.geteuid() != 0
            orphaned = None if waited_for else partial(_orphaned, process, record)
            is_heard = process.foreground or process.log is not None
            serve(device, self._union, config, partial(_answered, process, record) if is_heard else None, orphaned)
            _tell_end(process)
        except LayerfsError as error:
            _log().error("%s (%s)", error.message, error.hint)
            raise
        except Exception:
            _log().exception("the server ended by a bug")
            raise


def _log() -> "logging.Logger":
    return logs.logger(__name__)


def _is_dead(mountpoint: bytes) -> bool:
    """Tell whether a mount has no server any more."""
    try:
        os.statvfs(mountpoint)  # asks the server, whatever the kernel has cached
    except OSError as error:
        return error.errno in DEAD
    return False


@contextmanager
def endings_held(*, for_good: bool = False) -> Iterator[None]:
    """Hold back what ends us while a mount is between its making and its server; SIGINT undoes it as an error does.

    With `for_good` it stays held where all went well: the process has served, and a late signal must not spoil its end.
    """
    import signal

    former = signal.pthread_sigmask(signal.SIG_BLOCK, ending_signals() - {signal.SIGINT})
    try:
        yield
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
        raise
    if not for_good:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def redirect_stdio(log: int | None) -> None:
    """Let go of the caller's terminal or pipes: podman waits until the last copy of its pipe is closed."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd in range(STDERR + 1):
        os.dup2(null if fd == 0 or log is None else log, fd)
    os.close(null)


def _default_log(record: registry.MountRecord) -> bytes | None:
    """Return a file for warnings: that of a mount that is gone and had the same id, else there would be ever more."""
    path = _beside_records(b"%d.log" % record.mount_id)
    if path is None or not os.path.exists(path):
        return path
    former = registry.current().get(record.mount_id)
    in_use = former is not None and former.alive and former.log == path
    return _beside_records(registry.key(record) + b".log") if in_use else path


def _beside_records(name: bytes) -> bytes | None:
    """Return the path of a file in the runtime directory, if there is one."""
    try:
        return os.path.join(runtime_directory(), name)
    except PermissionError:
        return None


def _answered(process: Process, record: registry.MountRecord) -> None:
    """Do what is to be done once requests are answered. A log that was asked for tells of the start, too."""
    logs.begin_now()
    if process.log is not None:
        place, count = os.fsdecode(record.mountpoint), len(record.stack.lowers)
        _log().info("serving %r, %d layer%s: %s", place, count, "s" * (count != 1), record.why)
    if process.foreground and b"NOTIFY_SOCKET" in os.environb:
        from layerfs.sys.notify import notify

        notify("READY=1")


def _orphaned(process: Process, record: registry.MountRecord) -> None:
    """Do in a child what a server would have done at its end, had it not been killed as it started."""
    registry.remove(record)
    _tell_end(process)


def _tell_end(process: Process) -> None:
    if process.log is not None:
        _log().info("unmounted: the server ends")


def start_logging(process: Process, log: bytes | None) -> None:
    """Send what is logged to stderr where that is somewhere, else to the host's log.

    Where there is none it goes to the file `log`, which only a first line creates.
    """
    import logging

    from layerfs.sys.logform import LINE, Printable, private_file

    handler: logging.Handler = logging.NullHandler()
    if process.foreground or process.log:
        handler = logging.StreamHandler(sys.stderr)
    elif log:
        handler = private_file(os.fsdecode(log), LOG_SIZE)
    handler.setFormatter(Printable(LINE))
    if not process.foreground and not process.log:
        handler = _host_log(handler)
    logging.basicConfig(level=logging.DEBUG if process.debug else logging.INFO, handlers=[handler], force=True)


def _forget_log(process: Process, log: bytes | None) -> None:
    """Remove the log of a former mount, whose id this one got; this one has none yet."""
    if log is not None and not process.log:
        with suppress(FileNotFoundError):
            os.unlink(log)


def _host_log(otherwise: "logging.Handler") -> "logging.Handler":
    from layerfs.sys.hostlog import HostLog

    return HostLog(otherwise)
