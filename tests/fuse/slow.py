"""A real mount whose server imports as slowly as a test wants."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

from layerfs.fuse import serve, session_import
from layerfs.fuse.config import ServeConfig
from layerfs.fuse.mount import attach
from layerfs.spec.attach import AttachOptions
from layerfs.sys.mounts import MountFlag, unmount
from layerfs.value import replace
from tests.union.box import Box

NAMES = 500  # more than one READDIRPLUS holds
ANY = ServeConfig(b"")
Mount = TypeVar("Mount", bound="Slow")


class Slow:
    """A mount whose server is in its prelude until `imported`."""

    def __init__(
        self,
        box: Box,
        target: Path,
        imported: Path,
        monkeypatch: pytest.MonkeyPatch,
        orphaned: Callable[[], None] | None = None,
        server: str = "tests.fuse.slowly",
        *,
        begins: str = "first",
        config: ServeConfig = ANY,
    ) -> None:
        """`begins` says when the import does, as LAYERFS_SESSION; `config` has all but the mountpoint."""
        self._config = replace(config, mountpoint=os.fsencode(target))
        target.mkdir()
        monkeypatch.setenv("LAYERFS_SESSION", begins)
        self._orphaned = orphaned
        self.target, self._imported = target, imported
        monkeypatch.setenv("LAYERFS_TEST_IMPORTED", os.fspath(imported))
        monkeypatch.setattr(session_import, "SERVER", server)
        self._device = attach(
            os.fsencode(target), AttachOptions(flags=MountFlag.RDONLY if config.read_only else MountFlag(0))
        )
        self.pid = os.fork()
        if self.pid == 0:
            self._serve(box)
        os.close(self._device)
        box.union.close()

    def _serve(self, box: Box) -> NoReturn:
        try:
            serve.serve(self._device, box.union, self._config, orphaned=self._orphaned)
            os._exit(0)
        finally:
            sys.stderr.flush()
            os._exit(1)

    def imported(self) -> None:
        self._imported.touch()

    def enter_session(self, name: str) -> None:
        """Return when the session has answered a request, about a file."""
        self.imported()
        with open(self.target / name, "rb"):
            at = os.open(self.target, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(at)  # nothing else answers it
            finally:
                os.close(at)

    def end(self) -> int:
        """Unmount and return the server's exit status."""
        self.imported()
        unmount(os.fsencode(self.target), lazy=True)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def abort(device: int) -> None:
    """Have the kernel end the connection of a mount, given its minor device number, as root may."""
    control = Path("/sys/fs/fuse/connections")
    if not (control / str(device)).exists():
        subprocess.run(["mount", "-t", "fusectl", "none", str(control)], check=False)  # unless another test is quicker
    (control / str(device) / "abort").write_text("1")


@contextmanager
def running(mount: Mount) -> Iterator[Mount]:
    """End a mount's server, whatever became of it."""
    try:
        yield mount
    finally:
        try:
            os.kill(mount.pid, signal.SIGKILL)
            os.waitpid(mount.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
