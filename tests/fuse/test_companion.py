"""The child beside a server that still imports: it shows the root if asked, and ends one whose mount is gone."""

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerfs.fuse import mount_child
from layerfs.fuse.companion import Companion
from layerfs.sys.mounts import unmount
from tests.fuse.slow import Slow, abort, running
from tests.host import require
from tests.oracle.trees import file
from tests.union.box import Box

PATIENCE = 20  # s


@pytest.mark.parametrize("show", [True, False])
def test_the_root_is_shown_only_where_that_is_asked_for(tmp_path: Path, show: bool) -> None:
    target = tmp_path / "target"
    target.mkdir()
    heard, device = os.pipe()
    companion = Companion(device, os.fsencode(target))
    os.rmdir(target)  # so that a stat fails
    companion.close(show=show)
    if show:
        with pytest.raises(FileNotFoundError):
            mount_child.result(companion._pid)
    else:
        assert mount_child.result(companion._pid) == mount_child.GONE
    companion.reap()  # there is nobody to wait for any more
    os.close(heard)
    os.close(device)


def test_a_companion_that_nobody_asks_ends_with_the_server(tmp_path: Path) -> None:
    heard, device = os.pipe()
    Companion(device, os.fsencode(tmp_path)).reap()
    Companion(device, os.fsencode(tmp_path), lambda: None).reap()
    os.close(heard)
    os.close(device)


def test_a_server_that_has_said_a_word_is_not_killed(tmp_path: Path) -> None:
    """From then on it may have written, and syncs that at its end."""
    called = tmp_path / "called"
    heard, device = os.pipe()
    server = os.fork()
    if server == 0:
        os.close(heard)
        companion = Companion(device, os.fsencode(tmp_path), called.touch)
        companion.close()
        companion.reap()
        os.write(device, b"x")
        signal.pause()
    assert os.read(heard, 1) == b"x"
    os.close(heard)  # the device of the server fails from here on
    os.kill(server, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(server, 0)[1]) == -signal.SIGTERM
    assert not called.exists()
    os.close(device)


class Greedy(Slow):
    """A mount whose server does not hear of its end by itself."""

    def hold(self) -> None:
        """Have the import take the interpreter for ever."""
        before = self._ticks()
        self.imported()
        _wait_for(lambda: self._ticks() > before + 5)

    def _ticks(self) -> int:
        return int(Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11])


@pytest.fixture
def called(tmp_path: Path) -> Path:
    return tmp_path / "called"


@pytest.fixture
def mount(scratch: Path, monkeypatch: pytest.MonkeyPatch, called: Path) -> Iterator[Greedy]:
    require("fuse")
    box = Box(scratch, {b"top": file(b"1")}, {b"low": file(b"two")})
    place = scratch / "m", scratch / "imported"
    with running(Greedy(box, *place, monkeypatch, called.touch, "tests.fuse.greedily")) as mount:
        assert "low" in os.listdir(mount.target)
        yield mount


def test_a_mount_that_ends_during_the_import_has_the_server_killed(mount: Greedy, called: Path) -> None:
    """The server heard of it late: on a busy machine its layers were free 4 to 120 ms after the mount's end."""
    mount.hold()
    unmount(os.fsencode(mount.target))
    assert os.waitstatus_to_exitcode(os.waitpid(mount.pid, 0)[1]) == -signal.SIGKILL
    _wait_for(called.exists)


def test_nobody_else_of_the_servers_session_is_preferred_to_others(mount: Greedy, called: Path) -> None:
    """A session's autogroup got the highest priority, and two busy loops in it stopped the whole machine."""
    group = Path("/proc/self/autogroup")
    before = group.read_text() if group.exists() else ""
    mount.hold()
    unmount(os.fsencode(mount.target))
    os.waitpid(mount.pid, 0)
    _wait_for(called.exists)
    assert (group.read_text() if group.exists() else "") == before


def test_a_connection_that_is_aborted_during_the_import_leaves_no_dead_mount(mount: Greedy, called: Path) -> None:
    require("root")
    device = os.minor(os.stat(mount.target).st_dev)
    mount.hold()
    abort(device)
    assert os.waitstatus_to_exitcode(os.waitpid(mount.pid, 0)[1]) == -signal.SIGKILL
    _wait_for(called.exists)
    assert not os.path.ismount(mount.target)


def test_a_server_that_is_killed_during_the_import_leaves_an_error(mount: Greedy, called: Path) -> None:
    """A copy of the device that stayed open would have whoever asks the mount wait for ever."""
    mount.hold()
    os.kill(mount.pid, signal.SIGKILL)
    os.waitpid(mount.pid, 0)
    with pytest.raises(OSError) as caught:
        os.statvfs(mount.target)
    assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    assert not called.exists()


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
