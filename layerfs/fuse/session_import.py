"""The import of the session's code by a thread, while the prelude answers."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final

from layerfs.fuse.natively import intercept
from layerfs.sys import logs
from layerfs.sys.descriptors import STDIO, close_all_but
from layerfs.sys.later import put_off
from layerfs.sys.namespaces import Namespace, unshare

if TYPE_CHECKING:
    from threading import Thread

    from layerfs.fuse.companion import Companion

SERVER: Final = "layerfs.fuse.server"
SWITCH: Final = 100e-6  # seconds; how soon the importing thread lets go of the interpreter (its default: 5 ms)


class SessionImport:
    """The one import of a server's process."""

    def __init__(self, mountpoint: bytes) -> None:
        self._mountpoint = mountpoint
        self._companion: Companion | None = None
        self._thread: Thread | None = None
        self._imported = -1
        self._failures: list[BaseException] = []
        self._former = sys.getswitchinterval()
        self._apart = False

    def begin_at_once(self, device: int, orphaned: Callable[[], None] | None) -> None:
        """Begin before the first request; with `orphaned` a companion watches (companion.py)."""
        from layerfs.fuse.companion import Companion  # few servers begin so

        self._companion = Companion(device, self._mountpoint, orphaned)
        self._apart = orphaned is not None
        self.begin()

    def spare(self) -> None:
        """Have no companion kill this server any more: it will have written something."""
        if self._companion is not None:
            self._companion.close()

    def begin(self) -> int:
        """Begin, unless that was done before; return what is readable once the import has ended."""
        self._begun()
        return self._imported

    def _begun(self) -> "Thread":
        if self._thread is None:
            from threading import Thread  # a server that is never busy needs no thread

            self._imported = os.eventfd(0, os.EFD_CLOEXEC)
            self._thread = Thread(target=self._fetch, name="layerfs-import", daemon=True)
            sys.setswitchinterval(SWITCH)
            self._thread.start()
        return self._thread

    def _fetch(self) -> None:
        put_off("ssl", "hmac")  # trio has uses for them, we have none for those: 5 MB
        try:
            logs.begin_now()
            if self._apart:
                _let_go_of_layers(self._imported)
            intercept()
            import_module(SERVER)
        except BaseException as error:
            self._failures.append(error)
        os.eventfd_write(self._imported, 1)

    def end(self) -> None:
        """Return when the import, which is begun if it was not, has ended. Raises what it raised."""
        self._begun().join()
        sys.setswitchinterval(self._former)
        os.close(self._imported)
        self.spare()
        if self._failures:
            raise self._failures[0]

    def reap(self) -> None:
        """Wait for the companion; to be called when the mount has ended."""
        if self._companion is not None:
            self._companion.reap()


def _let_go_of_layers(keep: int) -> None:
    """Give this thread a descriptor table of its own, with stdio and `keep`: its end, if we are killed, may come late.

    Where a sandbox forbids that (Docker's default seccomp profile), the layers are free when the thread has ended.
    """
    with suppress(OSError):
        unshare(Namespace.FILES)
        close_all_but((*STDIO, keep))
