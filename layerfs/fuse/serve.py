"""A server's life in order: FUSE_INIT, the prelude beside the import of what is heavy, then the session by pyfuse3.

The mount may end at any step. The device then says ENODEV to the next reader, and that is the orderly end.
"""

import errno
import os
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Final

from layerfs.fuse.config import ServeConfig, hold_signals
from layerfs.fuse.device import Device
from layerfs.fuse.handshake import Wanted, negotiate
from layerfs.fuse.listings import Listings
from layerfs.fuse.prelude import Prelude
from layerfs.sys.later import put_off
from layerfs.union.union import Union

SERVER: Final = "layerfs.fuse.server"
SWITCH: Final = 100e-6  # seconds; how soon the importing thread lets go of the interpreter (its default: 5 ms)


def serve(fd: int, union: Union, config: ServeConfig, beside: Callable[[], None] | None = None) -> None:
    """Serve `union` on a mounted /dev/fuse descriptor until it is unmounted, or a signal has it unmounted.

    Owns `fd` and `union`. To be called once in a process, in its main thread; `beside` is called in another one once
    requests are answered. Raises Unsupported when the kernel is too old.
    """
    device, listings = Device(fd), Listings()
    hold_signals()
    try:
        negotiate(fd, Wanted.of(union.options, read_only=config.read_only))
        _answer_during_import(Prelude(union, listings), device, beside, debug=config.debug)
    except BaseException as error:
        device.close()
        union.close()
        if isinstance(error, OSError) and error.errno == errno.ENODEV:
            return  # unmounted already
        raise
    from layerfs.fuse.server import serve_union

    serve_union(device, union, config, listings)


def _answer_during_import(prelude: Prelude, device: Device, beside: Callable[[], None] | None, *, debug: bool) -> None:
    """Answer requests while a thread imports the server. Raises ENODEV, and what the import raises."""
    imported = os.eventfd(0, os.EFD_CLOEXEC)
    failures: list[BaseException] = []
    former = sys.getswitchinterval()

    def fetch() -> None:
        put_off("ssl", "hmac")  # trio has uses for them, we have none for those: 5 MB
        try:
            if beside is not None:
                beside()
            import_module(SERVER)
        except BaseException as error:
            failures.append(error)
        os.eventfd_write(imported, 1)

    thread = threading.Thread(target=fetch, name="layerfs-import")
    sys.setswitchinterval(SWITCH)
    try:
        thread.start()
        if not debug:  # every request is to be logged
            prelude.answer(device, imported)
    finally:
        thread.join()
        sys.setswitchinterval(former)
        os.close(imported)
    if failures:
        raise failures[0]
