"""The lower of a kernel overlay where loop devices are refused: one read-only FUSE mount of the merged images.

    who mounts --+-- makes the overlay, with this mount as its lowest layer, and lets go of it
                 +-- server -- in a mount namespace of its own, which holds neither

The mount is nowhere: the overlay has the last reference to it. However the overlay is unmounted, also by the end of its
mount namespace, the FUSE mount goes with it, the server reads ENODEV and ends.
"""

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from layerfs.fuse.config import ServeConfig, hold_signals
from layerfs.fuse.mount import attach_nowhere
from layerfs.lowers.kinds import opener
from layerfs.model import Stack
from layerfs.mounts.process import ServerHooks
from layerfs.mounts.starter import Ready, start_forked
from layerfs.spec.attach import AttachOptions
from layerfs.sys.mounts import MountFlag, let_go, make_private
from layerfs.sys.namespaces import Namespace, unshare
from layerfs.sys.private import runtime_directories
from layerfs.union.options import UnionOptions
from layerfs.union.union import Union

_PATIENCE: Final = 5.0  # s for a server to end whose mount nobody wants; guessed
_SYSTEM: Final = (b"/proc", b"/dev", b"/etc", b"/usr/lib", b"/lib")  # what a process goes on to open by its path


@dataclass(frozen=True, slots=True)
class Underlay:
    """A served FUSE mount that is nowhere: the descriptor of the mount, and the server's process."""

    mount: int
    server: int


@contextmanager
def underlay(stack: Stack, mountpoint: bytes, hooks: ServerHooks) -> Iterator[Underlay]:
    """Serve the merged tree of a stack without an upper; what is mounted on it meanwhile keeps it afterwards.

    `mountpoint` is the overlay's. Raises LayerfsError or OSError with nothing left.
    """
    union = Union.open(Stack(stack.lowers, offset=stack.offset), UnionOptions(), None, opener(stack))
    try:
        device, mount = attach_nowhere(AttachOptions(MountFlag.RDONLY, allow_other=True))
        try:
            server = _fork(device, mount, union, ServeConfig(mountpoint, read_only=True), hooks)
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
        _wait_for_end(server)
        raise
    os.close(mount)


def _wait_for_end(server: int) -> None:
    """Wait for the end of a server whose mount is gone."""
    fd = os.pidfd_open(server)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(_PATIENCE * 1000):
            os.kill(server, signal.SIGKILL)
    finally:
        os.close(fd)
    os.waitpid(server, 0)


def _fork(device: int, mount: int, union: Union, config: ServeConfig, hooks: ServerHooks) -> int:
    """Start the server and return its pid once it is on its own; what is asked of it by then waits in the kernel."""

    def be_the_server(ready: Ready) -> None:
        os.close(mount)
        _serve(device, union, config, hooks, ready)

    return start_forked(be_the_server, "the server of the images")


def _serve(device: int, union: Union, config: ServeConfig, hooks: ServerHooks, ready: Ready) -> None:
    """Be the server's process, until the mount is gone."""
    try:
        os.setsid()
        os.chdir("/")
        unshare(Namespace.MOUNT)
        make_private(b"/", recursive=True)
        let_go(_needed(hooks))
        hooks.begin()
        hold_signals()  # until the server can answer them
        ready()
        os.umask(0)
        from layerfs.fuse.serve import serve

        serve(device, union, config)
    finally:
        hooks.end()


def _needed(hooks: ServerHooks) -> list[bytes]:
    """Return the paths that the server's process may still open."""
    own = [os.fsencode(path) for path in (sys.prefix, sys.base_prefix, *sys.path) if path.startswith("/")]
    logs = [] if hooks.log is None else [hooks.log]
    return [os.path.realpath(path) for path in (*_SYSTEM, *own, *logs, *runtime_directories())]
