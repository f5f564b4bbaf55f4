"""A server's life in order: whatever ends the mount, at whichever step, is an orderly end."""

import os
import signal

from layerfs.sys.mounts import unmount
from tests.fuse.slow import Slow


def test_told_to_end_during_the_import_the_server_unmounts(slow: Slow) -> None:
    """It died at once, and left a mount that answered ENOTCONN."""
    assert "low" in os.listdir(slow.target)
    os.kill(slow.pid, signal.SIGTERM)
    assert "e" in os.listdir(slow.target / "d")
    slow.imported()
    assert os.waitstatus_to_exitcode(os.waitpid(slow.pid, 0)[1]) == 0
    assert not os.path.ismount(slow.target)


def test_a_mount_that_ends_during_the_import_ends_the_server(slow: Slow) -> None:
    unmount(os.fsencode(slow.target), lazy=True)
    slow.imported()
    assert os.waitstatus_to_exitcode(os.waitpid(slow.pid, 0)[1]) == 0
