"""What stands below a kernel overlay where loop devices are refused: one FUSE mount of the merged images, read-only.

    who mounts --+-- makes the overlay, with this mount as its lowest layer, and lets go of it
                 +-- server -- in a mount namespace of its own, which holds neither

The mount is nowhere: the overlay has the last reference to it. However the overlay is unmounted, also by the end of its
mount namespace, the FUSE mount goes with it, the server reads ENODEV and ends.
"""

import logging
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NoReturn

from layerfs.errors import LayerfsError
from layerfs.fuse.config import ServeConfig, hold_signals
from layerfs.fuse.mount import attach_nowhere
from layerfs.lowers.kinds import open_tree
from layerfs.model import Stack
from layerfs.mounts import registry
from layerfs.mounts.process import Household
from layerfs.spec.attach import AttachOptions
from layerfs.sys.mounts import MountFlag, let_go, make_private
from layerfs.sys.namespaces import Namespace, unshare
from layerfs.union.options import UnionOptions
from layerfs.union.union import Union

_READY: Final = b"r"
_PATIENCE: Final = 5.0  # s for a server to end whose mount nobody wants; guessed
_SYSTEM: Final = (b"/proc", b"/dev", b"/etc", b"/usr/lib", b"/lib")  # what a process goes on to open by its path


@dataclass(frozen=True, slots=True)
class Underlay:
    """A served FUSE mount that is nowhere: the descriptor of the mount, and the server's process."""

    mount: int
    server: int


@contextmanager
def underlay(stack: Stack, place: bytes, household: Household) -> Iterator[Underlay]:
    """Serve the merged tree of a stack without an upper; what is mounted on it meanwhile keeps it afterwards.

    `place` is the overlay's mountpoint. Raises LayerfsError or OSError with nothing left.
    """
    union = Union.open(Stack(stack.lowers), UnionOptions(), None, open_tree)
    try:
        device, mount = attach_nowhere(AttachOptions(MountFlag.RDONLY, allow_other=True))
        try:
            server = _fork(device, mount, union, ServeConfig(place, read_only=True), household)
        except BaseException:
            os.close(mount)
            raise
        finally:
            os.close(device)  # a copy of ours would let who asks a dead server wait for ever
    finally:
        union.close()
    try:
        yield Underlay(mount, server)
    except BaseException:
        os.close(mount)
        _see_off(server)
        raise
    os.close(mount)


def _see_off(server: int) -> None:
    """Wait until a server has ended, as it does when its mount is gone."""
    fd = os.pidfd_open(server)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(_PATIENCE * 1000):
            os.kill(server, signal.SIGKILL)
    finally:
        os.close(fd)
    os.waitpid(server, 0)


def _fork(device: int, mount: int, union: Union, config: ServeConfig, household: Household) -> int:
    """Start the server and return its pid once it is on its own; what is asked of it by then waits in the kernel."""
    heard, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(heard)
        os.close(mount)
        _serve(device, union, config, household, said)
    os.close(said)
    with open(heard, "rb") as ear:
        if ear.read(1) == _READY:
            return pid
    os.waitpid(pid, 0)
    raise LayerfsError("the server of the images ended as it started", "`layerfs mount --driver=fuse --debug` says why")


def _serve(device: int, union: Union, config: ServeConfig, household: Household, said: int) -> NoReturn:
    """Be the server's process, until the mount is gone."""
    try:
        os.setsid()
        os.chdir("/")
        unshare(Namespace.MOUNT)
        make_private(b"/", recursive=True)
        let_go(_needed(household))
        household.settle()
        hold_signals()  # until the server can answer them
        os.write(said, _READY)
        os.close(said)
        os.umask(0)
        from layerfs.fuse.serve import serve

        serve(device, union, config)
    except Exception:
        logging.getLogger(__name__).exception("the server ended by a bug")
    finally:
        try:
            household.leave()
        finally:
            os._exit(0)


def _needed(household: Household) -> list[bytes]:
    """Return the paths that the server's process may still open."""
    own = [os.fsencode(path) for path in (sys.prefix, sys.base_prefix, *sys.path) if path.startswith("/")]
    logs = [] if household.log is None else [household.log]
    return [os.path.realpath(path) for path in (*_SYSTEM, *own, *logs, *registry.places())]
