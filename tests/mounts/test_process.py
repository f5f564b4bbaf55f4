"""What a server leaves as it ends: no mount of its own, and every other."""

import logging
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import cast
from unittest.mock import Mock

import pytest

from layerfs.fuse.mount import attach
from layerfs.model import Driver, Stack
from layerfs.mounts.process import Process, Server, start_logging
from layerfs.spec.attach import AttachOptions
from layerfs.spec.options import MountRequest
from layerfs.sys import hostlog
from layerfs.union.options import UnionOptions
from layerfs.union.union import Union
from tests.host import BIN
from tests.waiting import PATIENCE, wait_until


def test_told_to_end_at_once_a_mount_in_the_foreground_goes(scratch: Path, require: Callable[..., None]) -> None:
    """SIGTERM in the first tenths of a second killed the server and left the mount, dead."""
    require("fuse")
    (scratch / "lower").mkdir()
    mount = scratch / "m"
    mount.mkdir()
    server = subprocess.Popen([BIN / "layerfs", "mount", "-f", "--driver=fuse", scratch / "lower", mount])
    wait_until(lambda: f" {mount} " in Path("/proc/self/mounts").read_text(), "the mount")
    server.terminate()
    assert server.wait(PATIENCE) == 0
    assert not os.path.ismount(mount)


def _server(place: Path, device: int) -> Server:
    request = MountRequest(
        Stack((os.fsencode(place),), None, None), os.fsencode(place), UnionOptions(), AttachOptions(), Driver.FUSE
    )
    return Server(request, "", cast(Union, Mock()), device)


def test_a_mount_that_got_the_number_of_one_that_is_gone_stays(scratch: Path, require: Callable[..., None]) -> None:
    """umount(8) and a mount at once: the former server, at its end, took the new mount for its own."""
    require("root")
    subprocess.run(["mount", "-t", "tmpfs", "another", scratch], check=True)
    try:
        _server(scratch, -1).unmount()
        assert os.path.ismount(scratch)
    finally:
        subprocess.run(["umount", scratch], check=True)


def test_a_mount_that_was_never_served_goes(scratch: Path, require: Callable[..., None]) -> None:
    require("fuse")
    _server(scratch, attach(os.fsencode(scratch), AttachOptions())).unmount()
    assert not os.path.ismount(scratch)


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The logger that a server sets up, put back afterwards."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    for handler in logger.handlers:
        if handler not in handlers:
            handler.close()
    logger.handlers[:], logger.level = handlers, level


def test_a_server_that_nobody_watches_writes_to_the_hosts_log_or_a_file(
    root_logger: logging.Logger, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, log = os.fsencode(scratch / "socket"), scratch / "7.log"
    monkeypatch.setattr(hostlog, "HostLog", partial(hostlog.HostLog, place=place))
    start_logging(Process(), os.fsencode(log))
    assert not log.exists()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(place)
        logging.getLogger("layerfs.x").warning("one")
        assert daemon.recv(1000).endswith(b": layerfs.x: one")
    assert not log.exists()
    logging.getLogger("layerfs.x").warning("two")
    assert log.read_text().endswith(" WARNING layerfs.x: two\n")


def test_a_log_that_was_asked_for_is_the_only_one(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    start_logging(Process(log=b"/somewhere"), b"/somewhere")  # stderr is that file by then
    logging.getLogger("layerfs.x").warning("one")
    assert capsys.readouterr().err.endswith(" WARNING layerfs.x: one\n")
