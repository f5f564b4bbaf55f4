"""The life of one server: handshake, loop, and an end that leaves no mount and loses no write.

Nothing but the end of the session ends it: unmounted by somebody (the device says ENODEV), or by us on a signal that
would kill us. A child unmounts (mount_child.py), while the loop goes on answering: umount(2) writes back what is dirty,
through us.
"""

import errno
import gc
import logging
import os
import signal
from contextlib import closing
from typing import TYPE_CHECKING

import pyfuse3
import trio

from layerfs.fuse import mount_child, threads
from layerfs.fuse.config import Idle, ServeConfig, ending_signals, hold_signals
from layerfs.fuse.device import Device, Introduction
from layerfs.fuse.event_loop import Gate, install
from layerfs.fuse.handshake import Wanted, negotiate
from layerfs.fuse.kept import Kept
from layerfs.fuse.natively import intercepted, open_lane
from layerfs.fuse.operations import Operations
from layerfs.fuse.raw_requests import RawRequests
from layerfs.fuse.syncing import bring_to_disk
from layerfs.sys.limits import lift_limits, one_arena
from layerfs.sys.prctl import set_name
from layerfs.union.union import Union

if TYPE_CHECKING:
    from layerfs.lane.lane import Lane

GRACE = 2  # seconds; guessed
LOOKS = 4  # at whether there were requests, in the time without any that ends a mount; guessed
SPARE_WORKERS = 2  # beside the one that reads; each holds a buffer of a megabyte, most of it untouched
# More requests than this wait in the kernel. Few take a worker for longer than a moment (bytes, copies, syncs), but a
# client may send many of them at once, and the rest must not wait.
WORKERS = 256
log = logging.getLogger(__name__)


def serve_union(device: Device, union: Union, config: ServeConfig, kept: Kept, *, natively: bool = False) -> None:
    """Serve a union where the prelude left off, until the mount ends; see `serve.serve`. Owns all but the config."""
    with closing(union):
        with closing(device), closing(kept):
            prepare(config)
            operations = Operations(union, config, kept)
            with closing(RawRequests(operations, device, config.mountpoint)) as raw:
                _serve(device, operations, config, union.options.timeout if natively else None, raw)
        bring_to_disk(union)


def run(fd: int, operations: pyfuse3.Operations, wanted: Wanted, config: ServeConfig) -> None:
    """Serve any operations, which must be guarded already, from FUSE_INIT on; otherwise as `serve.serve`."""
    try:
        with closing(Device(fd)) as device:
            log.debug("%s", negotiate(fd, wanted))
            _serve(device, operations, config)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return  # unmounted before we came
    finally:
        mount_child.clear_dead_mount(config.mountpoint)


def _serve(
    device: Device,
    operations: pyfuse3.Operations,
    config: ServeConfig,
    lane_timeout: float | None = None,
    raw: RawRequests | None = None,
) -> None:
    """Have libfuse take over the device, and serve until the mount ends.

    With `lane_timeout` [s] there is a lane, whose answers the kernel may keep for so long. `raw` answers what pyfuse3
    does not know.
    """
    opener = LaneOpener(lane_timeout, operations) if lane_timeout is not None else None
    with device.introduce(opener) as introduction:
        gate = Gate(introduction.hand_over, introduction.epoll)
        if raw is not None:
            gate.begin_raw = raw.begin
            gate.set_aside = intercepted()
        if isinstance(operations, Operations):
            gate.between = operations.union.has_room  # a lane has it called as well
        if opener is not None:
            opener.gate = gate
        _run_session(introduction, gate, operations, config)


class LaneOpener:
    """Opens the lane once libfuse is introduced, and has it handed what it can answer."""

    def __init__(self, timeout: float, operations: pyfuse3.Operations) -> None:
        self._timeout = timeout
        self._operations = operations
        self.gate: Gate | None = None

    def __call__(self, device: int, pair: int) -> "Lane":
        """Open it between the device and the socket, or give it the socket."""
        operations = self._operations if isinstance(self._operations, Operations) else None
        lane = operations.lane if operations is not None else None
        if lane is None:
            lane = open_lane(device, self._timeout, pair)
        else:
            lane.set_pair(pair)
        if operations is not None and self.gate is not None:
            operations.answer_natively(lane, self.gate)
        return lane


def _run_session(introduction: Introduction, gate: Gate, operations: pyfuse3.Operations, config: ServeConfig) -> None:
    """Run libfuse's session from its introduction to its end."""
    install(gate)
    pyfuse3.init(operations, introduction.path, {"debug"} if config.debug else set())
    try:
        with threads.running(gate):
            trio.run(_session, config, gate, instruments=[gate])
    finally:
        pyfuse3.close(unmount=False)


def prepare(config: ServeConfig) -> None:
    """Set what belongs to the process: logging, its name, as many descriptors as it may have, a calm collector.

    A signal that would end the session waits until there is one; block it before the mount is made, too.
    """
    hold_signals()
    logging.basicConfig(
        level=logging.DEBUG if config.debug else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("pyfuse3").addFilter(_was_awaited)
    set_name(b"layerfs")
    lift_limits()
    one_arena()
    gc.freeze()  # what was imported stays for ever, so that no collection walks it


def _was_awaited(record: logging.LogRecord) -> bool:
    """Ignore pyfuse3's error that a request is no longer awaited: the connection was aborted."""
    return not ("fuse_reply_" in record.msg and record.args == (os.strerror(errno.ENOENT),))


async def _session(config: ServeConfig, gate: Gate) -> None:
    """Answer requests until the session ends."""
    async with trio.open_nursery() as beside:
        beside.start_soon(_leave_when_told, config.mountpoint, beside.cancel_scope)
        if config.idle is not None:
            beside.start_soon(_leave_when_idle, config.idle, gate)
        await pyfuse3.main(min_tasks=SPARE_WORKERS, max_tasks=WORKERS)
        beside.cancel_scope.cancel()


async def _leave_when_told(mountpoint: bytes, session: trio.CancelScope) -> None:
    """Unmount on a signal; the session then ends as it does when somebody else unmounts.

    It does not when the mount is in use, here or in another mount namespace: then we end it. Requests that are being
    handled have GRACE to end; a thread's work always ends.
    """
    ending = ending_signals()
    for number in ending:  # what trio puts back: a thread that did not block it must not die of a late one, either
        signal.signal(number, _pass_over)
    with trio.open_signal_receiver(*ending) as signals:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ending)
        try:
            await anext(signals)
        finally:  # another one must not kill what cleans up
            signal.pthread_sigmask(signal.SIG_BLOCK, ending)
        if await _leave(mountpoint):
            await trio.sleep(GRACE)
        pyfuse3.terminate()
        await trio.sleep(GRACE)
        session.cancel()


def _pass_over(*_: object) -> None:
    """Do nothing on a signal: the end that it asks for has begun."""


async def _leave(mountpoint: bytes) -> bool:
    """Unmount; False when the mount is still in use, and was written back and taken out of the tree."""
    try:
        child = mount_child.leave(mountpoint)
        waiting = os.pidfd_open(child)
        try:
            await trio.lowlevel.wait_readable(waiting)
        finally:
            os.close(waiting)
        return mount_child.result(child) == mount_child.GONE
    except OSError as error:
        log.warning("cannot unmount %r: %s", mountpoint, error)
    return False


async def _leave_when_idle(idle: Idle, gate: Gate) -> None:
    """Have the mount taken away after a time without requests; the session then ends as if somebody else had done it.

    Looks a few times in that time, since asking the clock at each request would cost every request.
    """
    seen, since = gate.requests, trio.current_time()
    while True:
        await trio.sleep(idle.seconds / LOOKS)
        if gate.requests == seen:
            if trio.current_time() - since < idle.seconds:
                continue
            if await _try_to_leave(idle, gate):
                return
        seen, since = gate.requests, trio.current_time()


async def _try_to_leave(idle: Idle, gate: Gate) -> bool:
    """Tell whether the mount could be taken away: nobody used it, and nobody came meanwhile."""
    seen = gate.requests
    try:
        return await trio.to_thread.run_sync(idle.leave, lambda: gate.requests == seen)
    except OSError as error:
        log.warning("idle, but cannot unmount: %s", error)
        return False
