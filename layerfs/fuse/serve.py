"""A server's life in order: FUSE_INIT, the prelude beside the import of what is heavy, then the session by pyfuse3.

The mount may end at any step. The device then says ENODEV to the next reader, and that is the orderly end.
"""

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib import import_module
from typing import Final

from layerfs.errors import LayerfsError
from layerfs.fuse import mount_child, wire
from layerfs.fuse.companion import Companion
from layerfs.fuse.config import ServeConfig, ending_signals, hold_signals
from layerfs.fuse.device import Device
from layerfs.fuse.handshake import Wanted, negotiate
from layerfs.fuse.listings import Listings
from layerfs.fuse.natively import intercept, pages_with_lane
from layerfs.fuse.prelude import Prelude
from layerfs.fuse.space import Space, is_nearly_full
from layerfs.sys.later import put_off
from layerfs.sys.limits import lift_limits, obey_quotas
from layerfs.sys.namespaces import Namespace, unshare
from layerfs.sys.target import quick_ways
from layerfs.union.union import Union

SERVER: Final = "layerfs.fuse.server"
_ABORTED: Final = "somebody wrote to /sys/fs/fuse/connections/*/abort, or the kernel is short of memory"
SWITCH: Final = 100e-6  # seconds; how soon the importing thread lets go of the interpreter (its default: 5 ms)


@quick_ways()
def serve(
    fd: int,
    union: Union,
    config: ServeConfig,
    beside: Callable[[], None] | None = None,
    orphaned: Callable[[], None] | None = None,
) -> None:
    """Serve `union` on a mounted /dev/fuse descriptor until it is unmounted, or a signal has it unmounted.

    Owns `fd` and `union`. To be called once in a process, in its main thread; `beside` is called in another one once
    requests are answered. With `orphaned`, a mount that ends during the import has the process killed, so that the
    layers are free at once; it is called then, in a child. Raises Unsupported when the kernel is too old.
    """
    _be_a_server()
    device, companion = Device(fd), None
    try:
        with ExitStack() as undo:
            undo.callback(union.close)
            undo.callback(device.close)  # first: whoever asks must hear that nobody answers
            full = is_nearly_full(union)
            pages = pages_with_lane(config)
            wanted = Wanted.of(
                union.options, read_only=config.read_only, nearly_full=full, pages=pages or wire.MAX_PAGES
            )
            agreed = negotiate(fd, wanted)
            companion = Companion(fd, config.mountpoint, orphaned)
            listings = Listings()
            prelude = Prelude(union, listings)
            _answer_during_import(prelude, device, beside, apart=orphaned is not None, debug=config.debug)
            companion.close(show=not prelude.has_shown_root)
            undo.pop_all()
        from layerfs.fuse.server import serve_union

        space = Space(union, matters=agreed.may_write_through)
        serve_union(device, union, config, listings, space, natively=pages > 0)
    except OSError as error:
        if error.errno != errno.ENODEV:  # unmounted while we started
            raise
    finally:
        if companion is not None:
            companion.reap()
        _forget_pending()
    if mount_child.clear_dead_mount(config.mountpoint):
        raise LayerfsError("the kernel ended the connection, and what was not written back is lost", _ABORTED)


def _let_go_of_layers(keep: int) -> None:
    """Give this thread a descriptor table of its own, with stdio and `keep`: its end, if we are killed, may come late.

    Where a sandbox forbids that (Docker's default seccomp profile), the layers are free when the thread has ended.
    """
    with suppress(OSError):
        unshare(Namespace.FILES)
        mount_child.close_all_but({keep})


def _be_a_server() -> None:
    """Drop what was inherited from the process that started us, and block the signals that would end us."""
    hold_signals()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored, children leave no status
    os.umask(0)  # the kernel has applied the callers'
    os.chdir("/")
    lift_limits()
    obey_quotas()


def _forget_pending() -> None:
    """Take what told us to end meanwhile: in the foreground it would end the process when it is let through."""
    while signal.sigtimedwait(ending_signals(), 0) is not None:
        pass


def _answer_during_import(
    prelude: Prelude, device: Device, beside: Callable[[], None] | None, *, apart: bool, debug: bool
) -> None:
    """Answer requests while a thread imports the server. Raises ENODEV, and what the import raises."""
    imported = os.eventfd(0, os.EFD_CLOEXEC)
    failures: list[BaseException] = []
    former = sys.getswitchinterval()

    def fetch() -> None:
        put_off("ssl", "hmac")  # trio has uses for them, we have none for those: 5 MB
        try:
            if beside is not None:
                beside()
            if apart:
                _let_go_of_layers(imported)
            intercept()
            import_module(SERVER)
        except BaseException as error:
            failures.append(error)
        os.eventfd_write(imported, 1)

    thread = threading.Thread(target=fetch, name="layerfs-import")
    sys.setswitchinterval(SWITCH)
    thread.start()
    if not debug:  # every request is to be logged
        prelude.answer(device, imported)  # where that fails nobody waits for the import: the layers are let go at once
    thread.join()
    sys.setswitchinterval(former)
    os.close(imported)
    if failures:
        raise failures[0]
