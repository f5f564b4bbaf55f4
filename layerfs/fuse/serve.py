"""A server's life in order: FUSE_INIT, the prelude, then, if it pays, the import of pyfuse3, and its session.

The mount may end at any step. The device then says ENODEV to the next reader, and that is the orderly end.
"""

import errno
import gc
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from layerfs.errors import LayerfsError
from layerfs.fuse import mount_child, wire
from layerfs.fuse.attending import SWITCH, Attending
from layerfs.fuse.config import ServeConfig, ending_signals, hold_signals
from layerfs.fuse.device import Device
from layerfs.fuse.handshake import Negotiated, Wanted, negotiate
from layerfs.fuse.implicit import ImplicitOpens
from layerfs.fuse.kept import Kept
from layerfs.fuse.natively import open_ring, pages_with_lane
from layerfs.fuse.pagecache import PageCache
from layerfs.fuse.prelude import Prelude
from layerfs.fuse.session_import import SessionImport
from layerfs.fuse.space import Space, is_nearly_full
from layerfs.sys.limits import lift_limits, obey_quotas
from layerfs.sys.prctl import set_name
from layerfs.sys.target import quick_ways
from layerfs.union.union import Union

if TYPE_CHECKING:
    from layerfs.lane.lane import Lane

_ABORTED: Final = "somebody wrote to /sys/fs/fuse/connections/*/abort, or the kernel is short of memory"
Orphaned = Callable[[], None]


@quick_ways()
def serve(
    fd: int,
    union: Union,
    config: ServeConfig,
    beside: Callable[[], None] | None = None,
    orphaned: Orphaned | None = None,
) -> None:
    """Serve `union` on a mounted /dev/fuse descriptor until it is unmounted, or a signal has it unmounted.

    Owns `fd` and `union`. To be called once in a process, in its main thread; `beside` is called once requests will be
    answered. With `orphaned`, a mount that ends during an import that began at once, and of which nothing was changed,
    has the process killed, so that the layers are free at once; it is called then, in a child. Raises Unsupported when
    the kernel is too old.
    """
    _be_a_server()
    device, importing = Device(fd), SessionImport(config.mountpoint)
    try:
        _answer(device, union, config, importing, beside, orphaned)
    except OSError as error:
        if error.errno != errno.ENODEV:  # unmounted while we started
            raise
    finally:
        importing.reap()
        _forget_pending()
    if mount_child.clear_dead_mount(config.mountpoint):
        raise LayerfsError("the kernel ended the connection, and what was not written back is lost", _ABORTED)


def _answer(
    device: Device,
    union: Union,
    config: ServeConfig,
    importing: SessionImport,
    beside: Callable[[], None] | None,
    orphaned: Orphaned | None,
) -> None:
    """Answer requests until the mount ends. Raises ENODEV when it does, and what the import raises."""
    pages = pages_with_lane(config)
    with ExitStack() as undo:
        undo.callback(union.close)
        kept = Kept(union, PageCache(device.fd))
        undo.callback(kept.bring_to_disk)
        attending = Attending(config, importing.begin)
        undo.callback(attending.reap)
        undo.callback(device.close)  # early: whoever asks must hear that nobody answers
        undo.callback(kept.close)
        if _root_is_roots(union):
            attending.spare_root()
        full = is_nearly_full(union)
        ring = open_ring(device.fd, union.options.timeout, pages)
        if ring is not None:
            undo.callback(ring.close)
        wanted = Wanted.of(
            union.options,
            read_only=config.read_only,
            nearly_full=full,
            pages=pages or wire.MAX_PAGES,
            no_open=pages > 0 and config.read_only and union.read_only,
            no_opendir=pages > 0,
            uring=ring is not None,
        )
        agreed = negotiate(device.fd, wanted)
        if ring is not None:
            _begin_ring(device, ring, agreed)
        kept.space = Space(union, matters=agreed.may_write_through)
        if agreed.no_open:
            kept.implicit = ImplicitOpens(union)
        kept.no_opendir = agreed.no_opendir
        if beside is not None:
            beside()
        with attending:
            if config.debug or os.environ.get(SWITCH) == "first":
                importing.begin_at_once(device.fd, orphaned)
                attending.begin_import()
            if not config.debug:  # every request is to be logged
                Prelude(union, config, kept, importing.spare, natively=pages > 0).answer(device, attending)
            attending.show_root()
        importing.end()
        undo.pop_all()
    from layerfs.fuse.server import serve_union

    try:
        serve_union(device, union, config, kept, natively=pages > 0)
    finally:
        attending.reap()


def _begin_ring(device: Device, lane: "Lane", agreed: Negotiated) -> None:
    """Have requests come over io_uring if the kernel has agreed; nothing before does."""
    if agreed.uring and lane.register_ring():
        device.ring = lane
    else:
        lane.close()


def _root_is_roots(union: Union) -> bool:
    """Tell whether root owns the mount's root, as the kernel takes it for until it has asked."""
    try:
        return union.attributes(wire.ROOT).st_uid == 0
    except OSError:
        return False


def _be_a_server() -> None:
    """Drop what was inherited from the process that started us, and block the signals that would end us."""
    hold_signals()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored, children leave no status
    os.umask(0)  # the kernel has applied the callers'
    os.chdir("/")
    set_name(b"layerfs")
    lift_limits()
    obey_quotas()
    gc.freeze()  # what was imported stays for ever, so that no collection walks it


def _forget_pending() -> None:
    """Discard the signals that told us to end meanwhile: unblocked, they would kill a process in the foreground."""
    while signal.sigtimedwait(ending_signals(), 0) is not None:
        pass
