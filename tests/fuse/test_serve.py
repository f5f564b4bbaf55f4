"""A server's life in order: whatever ends the mount, at whichever step, is an orderly end."""

import errno
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from layerfs.sys.mounts import unmount
from tests.fuse.slow import Slow
from tests.waiting import PATIENCE


def test_told_to_end_during_the_import_the_server_unmounts(slow: Slow) -> None:
    """It died at once, and left a mount that answered ENOTCONN."""
    assert "low" in os.listdir(slow.target)
    os.kill(slow.pid, signal.SIGTERM)
    with suppress(FileNotFoundError):  # the mount has been left already
        assert "e" in os.listdir(slow.target / "d")
    slow.imported()
    assert os.waitstatus_to_exitcode(os.waitpid(slow.pid, 0)[1]) == 0
    assert not os.path.ismount(slow.target)


def test_a_mount_that_ends_during_the_import_ends_the_server(slow: Slow) -> None:
    unmount(os.fsencode(slow.target), lazy=True)
    slow.imported()
    assert os.waitstatus_to_exitcode(os.waitpid(slow.pid, 0)[1]) == 0


def test_a_mount_that_ends_during_the_import_lets_its_layers_go_before_that_ends(slow: Slow) -> None:
    """The next mount of the same layers found them busy for 170 ms; peers let go in 5."""

    def layers() -> list[str]:
        table = Path(f"/proc/{slow.pid}/fd")
        found = []
        for fd in table.iterdir():
            with suppress(FileNotFoundError):
                found.append(os.readlink(fd))
        return [target for target in found if target.startswith(str(slow.target.parent))]

    assert "low" in os.listdir(slow.target)
    assert layers()
    unmount(os.fsencode(slow.target))
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{slow.pid}/fd").exists() and layers():  # the import ends only below
        assert time.monotonic() < deadline
    slow.imported()
    assert os.waitstatus_to_exitcode(os.waitpid(slow.pid, 0)[1]) == 0


@pytest.mark.parametrize("name", ["HUP", "USR1"])
def test_any_signal_that_would_kill_waits_for_the_session(slow: Slow, name: str) -> None:
    assert "low" in os.listdir(slow.target)
    os.kill(slow.pid, getattr(signal, f"SIG{name}"))
    with suppress(FileNotFoundError):  # the mount has been left already
        assert "e" in os.listdir(slow.target / "d")
    slow.imported()
    assert os.waitstatus_to_exitcode(os.waitpid(slow.pid, 0)[1]) == 0
    assert not os.path.ismount(slow.target)


def test_a_server_that_is_killed_leaves_an_error_and_no_hang(slow: Slow) -> None:
    """Each process that asks, also the server's own child, hears that nobody answers any more."""
    os.kill(slow.pid, signal.SIGKILL)
    os.waitpid(slow.pid, 0)
    with pytest.raises(OSError) as caught:
        os.statvfs(slow.target)
    # The second where a child of the server had not closed its copy of the device yet.
    assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
