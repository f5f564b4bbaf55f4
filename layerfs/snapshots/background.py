"""Background work of a driver in another process: the queue, the worker, and pins on what the work replaces.

    ROOT/queue/ID        a snapshot's directory that is waiting to be worked at
    ROOT/done/ID         one that was worked at; what was replaced is still to be removed
    ROOT/failed/ID       why nothing can be done; the file says it
    ROOT/pins/USER-ID    snapshot USER was given mounts that use what is to be replaced in ID
    ROOT/worker.lock     held by the one process that works

A directory waits as a link that leads to it from ROOT: links are there or not, whatever the moment of a kill or a power
cut. A process is started when something is added, and again when a store is opened in which something waits.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from layerfs.errors import LayerfsError
from layerfs.sys.files import write_whole
from layerfs.sys.locks import lock_file
from layerfs.sys.scope import in_own_scope

QUEUE: Final = b"queue"
DONE: Final = b"done"
FAILED: Final = b"failed"
PINS: Final = b"pins"
_LOCK: Final = b"worker.lock"


class Background:
    """The background work below a driver's directory; `module` is run with that directory to do it."""

    def __init__(self, root: bytes, module: str) -> None:
        self._root = root
        self._module = module
        self._worker = 0

    def add(self, directory: bytes) -> None:
        """Queue a snapshot's directory and start a worker."""
        self._link(QUEUE, directory)
        self.start()

    def start(self, *, tidy: bool = False) -> None:
        """Start a worker process if anything is queued or can be tidied up and no worker runs; it ends by itself."""
        self._reap()
        waits = self._names(QUEUE) or (tidy and self._names(DONE))
        if waits and not self._is_at_work():
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            try:
                words = in_own_scope([sys.executable, "-P", "-m", self._module, os.fsdecode(self._root)])
                actions = [(os.POSIX_SPAWN_DUP2, null, number) for number in range(3)]
                self._worker = os.posix_spawn(words[0], words, os.environ, file_actions=actions, setsid=True)
            finally:
                os.close(null)

    def pin(self, user: bytes, name: bytes) -> None:
        """Note that a snapshot uses what is to be replaced in another; the worker looks for pins later than that."""
        with suppress(FileExistsError):
            self._symlink(PINS, b"%s-%s" % (user, name), b".")

    def unpin(self, user: bytes) -> None:
        """Remove a snapshot's pins, since its mounts are gone, and tidy up what waited for that."""
        mine = [pin for pin in self._names(PINS) if pin.partition(b"-")[0] == user]
        for pin in mine:
            self._drop(PINS, pin)
        if mine:
            self.start(tidy=True)

    def is_pinned(self, name: bytes) -> bool:
        """Tell whether any snapshot uses what is to be replaced in this one."""
        return any(pin.partition(b"-")[2] == name for pin in self._names(PINS))

    def work(self, do: Callable[[bytes], None], tidy: Callable[[bytes], bool]) -> None:
        """Run as the worker: do all queued work, then tidy up what is done and not pinned.

        An OSError of `do` leaves the thing waiting for the next process, a LayerfsError says that nothing can be done.
        """
        tried: set[bytes] = set()
        waiting = set(self._names(QUEUE))
        while waiting or not tried:
            tried.add(b"")
            lock = lock_file(os.path.join(self._root, _LOCK))  # held while working, or for a look whether anybody works
            try:
                for name in sorted(waiting, key=int):
                    tried.add(name)
                    with suppress(OSError):
                        self._do(do, name)
                for name in self._names(DONE):
                    with suppress(OSError):
                        directory = self._directory(DONE, name)
                        if not os.path.isdir(directory) or (not self.is_pinned(name) and tidy(directory)):
                            self._drop(DONE, name)
            finally:
                os.close(lock)
            waiting = set(self._names(QUEUE)) - tried

    def _do(self, do: Callable[[bytes], None], name: bytes) -> None:
        directory = self._directory(QUEUE, name)
        try:
            if os.path.isdir(directory):  # else it was removed meanwhile
                do(directory)
        except LayerfsError as error:
            os.makedirs(os.path.join(self._root, FAILED), 0o700, exist_ok=True)
            write_whole(os.path.join(self._root, FAILED, name), os.fsencode(f"{error}\n"))
        except OSError:
            if os.path.isdir(directory):
                raise  # else it was removed while it was worked at, and waits for nothing
        else:
            self._link(DONE, directory)
        self._drop(QUEUE, name)

    def _is_at_work(self) -> bool:
        try:
            os.close(lock_file(os.path.join(self._root, _LOCK), wait=False))
        except BlockingIOError:
            return True
        return False

    def _reap(self) -> None:
        """Wait for the worker process that was started last, if it has ended."""
        if self._worker:
            with suppress(ChildProcessError):
                if os.waitpid(self._worker, os.WNOHANG)[0] == 0:
                    return
            self._worker = 0

    def _link(self, place: bytes, directory: bytes) -> None:
        with suppress(FileExistsError):
            self._symlink(place, os.path.basename(directory), os.path.relpath(directory, self._root))

    def _directory(self, place: bytes, name: bytes) -> bytes:
        return os.path.join(self._root, os.readlink(os.path.join(self._root, place, name)))

    def _symlink(self, place: bytes, name: bytes, target: bytes) -> None:
        directory = os.path.join(self._root, place)
        try:
            os.symlink(target, os.path.join(directory, name))
        except FileNotFoundError:
            os.makedirs(directory, 0o700, exist_ok=True)
            os.symlink(target, os.path.join(directory, name))

    def _drop(self, place: bytes, name: bytes) -> None:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self._root, place, name))

    def _names(self, place: bytes) -> list[bytes]:
        with suppress(FileNotFoundError):
            return [name for name in os.listdir(os.path.join(self._root, place)) if name[:1].isdigit()]
        return []
