"""In the foreground under either driver: ready when the mount stands, 0 when somebody asked for the end."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.host import BIN
from tests.oracle.subjects import abort
from tests.waiting import PATIENCE, wait_until

Start = Callable[..., "Foreground"]


class Foreground:
    """`layerfs mount -f`, as a supervisor starts it."""

    def __init__(self, place: Path, driver: str) -> None:
        self.mount = place / "m"
        for name in ("lower", "upper", "work", "m"):
            (place / name).mkdir()
        (place / "lower/f").write_text("data")
        os.chmod(place / "lower", 0o755)
        stack: list[str | Path] = [place / "lower", self.mount, "--upper", place / "upper", "--work", place / "work"]
        command: list[str | Path] = [BIN / "layerfs", "mount", "-f", "--driver", driver, *stack]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
            heard.bind(str(place / "notify"))
            heard.settimeout(PATIENCE)
            environment = {**os.environ, "NOTIFY_SOCKET": str(place / "notify")}
            self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
            self.said = heard.recv(100)

    def end(self) -> int:
        _, self.complaint = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode


@pytest.fixture(params=["kernel", "fuse"])
def foreground(scratch: Path, require: Callable[..., None], request: pytest.FixtureRequest) -> Iterator[Foreground]:
    require("root", "fuse")
    started = Foreground(scratch, request.param)
    yield started
    started.process.kill()
    started.process.communicate(timeout=PATIENCE)


def test_it_says_when_the_mount_stands_and_stays(foreground: Foreground) -> None:
    assert foreground.said == b"READY=1"
    assert (foreground.mount / "f").read_text() == "data"
    assert foreground.process.poll() is None


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1"])
def test_a_signal_asks_for_the_end(foreground: Foreground, name: str) -> None:
    number = getattr(signal, f"SIG{name}")
    foreground.process.send_signal(number)
    wait_until(lambda: not os.path.ismount(foreground.mount), "the end of the mount")
    while foreground.process.poll() is None:  # somebody impatient, until the very end
        foreground.process.send_signal(number)
    assert foreground.end() == 0


@pytest.mark.parametrize("driver", ["kernel", "fuse"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda each: each.name)
def test_a_signal_asks_for_the_end_as_soon_as_the_mount_stands(
    scratch: Path, require: Callable[..., None], driver: str, number: signal.Signals
) -> None:
    """By the kernel driver it killed the program, and the mount stayed: nobody waited for it yet."""
    require("root", "fuse")
    for name in ("lower", "other", "m"):
        (scratch / name).mkdir()
    stack = [scratch / "lower", scratch / "other", scratch / "m"]
    command: list[str | Path] = [BIN / "layerfs", "mount", "-f", "--driver", driver, *stack]
    device = (scratch / "m").stat().st_dev
    with subprocess.Popen(command) as process:
        while os.lstat(scratch / "m").st_dev == device and process.poll() is None:
            pass  # a pause would miss the moment
        process.send_signal(number)
        assert process.wait(timeout=PATIENCE) == 0
    assert not os.path.ismount(scratch / "m")


def test_unmounting_asks_for_the_end(foreground: Foreground) -> None:
    subprocess.run(["umount", foreground.mount], check=True, timeout=PATIENCE)
    assert foreground.end() == 0


def test_what_is_in_use_is_detached(foreground: Foreground) -> None:
    fd = os.open(foreground.mount / "new", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"written")
    foreground.process.terminate()
    assert foreground.end() == 0
    assert not os.path.ismount(foreground.mount)
    with suppress(OSError):  # FUSE has no server any more
        os.close(fd)
    assert (foreground.mount.parent / "upper/new").read_bytes() == b"written"


def test_an_end_that_nobody_asked_for_is_a_failure(scratch: Path, require: Callable[..., None]) -> None:
    require("root", "fuse")
    foreground = Foreground(scratch, "fuse")
    abort(os.fsencode(foreground.mount))
    assert foreground.end() == 1
    assert "ended the connection" in foreground.complaint
    assert not os.path.ismount(foreground.mount)


@pytest.mark.parametrize("driver", ["kernel", "fuse"])
def test_a_working_directory_that_is_gone_is_no_matter(
    scratch: Path, require: Callable[..., None], driver: str
) -> None:
    """`layerfs: No such file or directory`, though every path was absolute."""
    require("root", "fuse")
    for name in ("gone", "lower", "m"):
        (scratch / name).mkdir()
    (scratch / "other").mkdir()
    script = 'cd "$1/gone" && rmdir "$1/gone" && exec "$2" mount --driver "$3" "$1/lower" "$1/other" "$1/m"'
    subprocess.run(["sh", "-c", script, "sh", scratch, BIN / "layerfs", driver], check=True, timeout=PATIENCE)
    subprocess.run([BIN / "layerfs", "umount", scratch / "m"], check=True, timeout=PATIENCE)
    wrong = script.replace('"$1/m"', "m")
    (scratch / "gone").mkdir()
    done = subprocess.run(
        ["sh", "-c", wrong, "sh", scratch, BIN / "layerfs", driver], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "working directory" in done.stderr
