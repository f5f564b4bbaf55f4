"""The process that stands by: there is one, it answers, and it ends when it is of no use."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import require
from tests.mounts.standbys import RuntimeDirectory
from tests.waiting import PATIENCE, wait_until

PROGRAM = """
import sys
from layerfs.mounts import standby
standby.LOOKS = (float(sys.argv[4]),) * 2
standby.runtime_directory = sys.argv[2].encode
standby.SECONDS = float(sys.argv[3])
standby.WARM = standby.WARM_LANE = ()
standby.stand_by(sys.argv[1].encode(), len)
"""


class Runtime(RuntimeDirectory):
    """A runtime directory for whoever stands by."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.started: list[subprocess.Popen[bytes]] = []

    def start(
        self, seconds: float = 1000, before: tuple[str, ...] = (), looks: float = 0.05
    ) -> "subprocess.Popen[bytes]":
        words = [str(self.program), str(self.place), str(seconds), str(looks)]
        process = subprocess.Popen([*before, sys.executable, "-c", PROGRAM, *words])
        self.started.append(process)
        return process

    @property
    def sockets(self) -> list[Path]:
        return list(self.place.iterdir())

    def end(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()


@pytest.fixture
def runtime(scratch: Path) -> Iterator[Runtime]:
    made = Runtime(scratch)
    yield made
    made.end()


def test_one_stands_by_and_a_second_leaves_at_once(runtime: Runtime) -> None:
    first = runtime.start()
    (path,) = wait_until(lambda: runtime.sockets)
    made = path.stat().st_ctime_ns
    assert runtime.start().wait(PATIENCE) == 0
    assert first.poll() is None
    assert [path.stat().st_ctime_ns for path in runtime.sockets] == [made]


def test_the_place_of_one_that_was_killed_is_taken(runtime: Runtime) -> None:
    first = runtime.start()
    (path,) = wait_until(lambda: runtime.sockets)
    first.kill()
    first.wait()
    runtime.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        wait_until(lambda: asked.connect_ex(str(path)) == 0)


def test_it_ends_when_nobody_asks_and_takes_its_socket_with_it(runtime: Runtime) -> None:
    assert runtime.start(seconds=0.1).wait(PATIENCE) == 0
    assert runtime.sockets == []


def test_it_ends_when_its_program_is_another(runtime: Runtime) -> None:
    process = runtime.start()
    wait_until(lambda: runtime.sockets)
    os.utime(runtime.program, (1, 1))
    assert process.wait(PATIENCE) == 0
    assert runtime.sockets == []


def test_it_ends_when_another_has_its_place(runtime: Runtime) -> None:
    process = runtime.start()
    (path,) = wait_until(lambda: runtime.sockets)
    path.unlink()
    path.touch()
    assert process.wait(PATIENCE) == 0
    assert runtime.sockets == [path]


def test_it_keeps_nothing_of_who_started_it(runtime: Runtime) -> None:
    process = runtime.start()
    wait_until(lambda: runtime.sockets)
    proc = Path(f"/proc/{process.pid}")
    wait_until(lambda: (proc / "cmdline").read_bytes() == b"layerfs-standby\0")
    wait_until(lambda: (proc / "environ").read_bytes() == b"")
    assert os.readlink(proc / "cwd") == "/"
    streams = {os.readlink(proc / "fd" / str(fd)) for fd in range(3)}
    assert streams == {os.devnull}


def test_it_is_not_alone_in_a_mount_namespace(runtime: Runtime) -> None:
    require("root")
    assert runtime.start(before=("unshare", "--mount")).wait(PATIENCE) == 0
    assert runtime.sockets == []


def test_it_ends_with_the_last_other_process_of_its_mount_namespace_without_a_look(runtime: Runtime) -> None:
    require("root")
    both = 'sleep 1000 & exec "$@"'
    process = runtime.start(before=("unshare", "--mount", "sh", "-c", both, "sh"), looks=1000)
    wait_until(lambda: runtime.sockets)
    assert process.poll() is None
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    assert process.wait(PATIENCE) == 0
    assert runtime.sockets == []
