"""What a server is started in belongs to whoever happened to start it: others that use its mount see nothing of it."""

import os
import random
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.host import BIN, find_person
from tests.waiting import PATIENCE

SIZE = 3 << 20  # bytes; more than the limits below allow
ROUNDS = 12
MOUNT = 'exec "$1" mount --driver fuse "$2/lower" "$2/m" --upper "$2/upper" --work "$2/work"'


@pytest.fixture
def base(scratch: Path, require: Callable[..., None]) -> Iterator[Path]:
    require("fuse", "root")
    make(scratch)
    yield scratch
    subprocess.run([BIN / "layerfs", "umount", scratch / "m"], capture_output=True, check=False, timeout=PATIENCE)


def make(base: Path) -> None:
    for name in ("lower", "upper", "work", "m"):
        (base / name).mkdir()
    (base / "lower/f").write_text("data")


def start(base: Path, prelude: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    """Mount from a shell that first does `prelude`."""
    command: list[str | Path] = ["sh", "-c", f"{prelude}\n{MOUNT}", "sh", BIN / "layerfs", base]
    return subprocess.run(command, capture_output=True, text=True, check=check, timeout=PATIENCE)


@pytest.mark.parametrize(
    "prelude",
    [
        "umask 077",
        "trap '' CHLD",
        "exec <&- >&- 2>&-",
        "exec <&-",
        "ulimit -S -f 1",
        "ulimit -n 100",
        "ulimit -S -t 5",
        "ulimit -S -v 4000000",
        "mkdir gone && cd gone && rmdir ../gone",
        "trap '' HUP INT TERM USR1",
    ],
)
def test_nothing_of_it_shows(base: Path, prelude: str) -> None:
    start(base, f'cd "$2"; {prelude}')
    os.umask(0o022)
    data = os.urandom(SIZE)
    (base / "m/new").write_bytes(data)
    assert (base / "upper/new").exists()
    assert (base / "m/new").read_bytes() == data
    for name, mode in (("wide", 0o666), ("narrow", 0o600)):
        os.close(os.open(base / "m" / name, os.O_CREAT | os.O_WRONLY, mode))
        assert stat.S_IMODE((base / "upper" / name).stat().st_mode) == mode & 0o644
    held = [os.open(base / f"m/{number}", os.O_CREAT | os.O_RDWR) for number in range(150)]
    for fd in held:
        os.unlink(base / f"m/{held.index(fd)}")
        os.pwrite(fd, b"x", 0)
    for fd in held:
        os.close(fd)
    subprocess.run([BIN / "layerfs", "umount", base / "m"], check=True, timeout=PATIENCE)
    assert (base / "upper/new").read_bytes() == data


@pytest.mark.parametrize("prelude", ["trap '' CHLD", "exec <&- >&- 2>&-", "umask 077"])
def test_neither_where_fusermount_mounts(scratch: Path, require: Callable[..., None], prelude: str) -> None:
    """With SIGCHLD ignored fusermount3's end was an error: there was nobody to wait for."""
    require("fuse", "person", "fusermount3")
    person = find_person(scratch / "home")
    base = scratch / "stack"
    person.owns(base)
    person.run(["sh", "-c", f"cd {base} && mkdir lower upper work m"])
    script = f"{prelude}\n{MOUNT}"
    person.run(["sh", "-c", script, "sh", BIN / "layerfs", base])
    person.run(["sh", "-c", f"echo data >{base}/m/f"])
    person.run(["sh", "-c", f"{prelude}\nexec {BIN}/layerfs umount {base}/m"])
    assert (base / "upper/f").read_text() == "data\n"


def test_where_there_is_no_proc_that_is_said(scratch: Path, require: Callable[..., None]) -> None:
    require("root", "unshare")
    make(scratch)
    script = 'mount -t tmpfs none /proc && "$1" mount --driver fuse "$2/lower" "$2/m"'
    command: list[str | Path] = ["unshare", "-m", "sh", "-c", script, "sh", BIN / "layerfs", scratch]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 1
    assert "/proc is not mounted" in done.stderr and "bug" not in done.stderr


def processes(base: Path) -> list[int]:
    """The processes that have the mount in their command line."""
    found = []
    for table in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if os.fsencode(base / "m") in table.read_bytes():
                found.append(int(table.parent.name))
    return found


def test_a_start_that_is_killed_at_any_moment_hangs_nobody(scratch: Path, require: Callable[..., None]) -> None:
    """Whoever asks a mount hears when the last copy of the device is closed; nobody keeps one and asks."""
    require("fuse", "root")
    make(scratch)
    mount, chance = scratch / "m", random.Random(1)
    for turn in range(ROUNDS):
        stack: list[str | Path] = [scratch / "lower", mount, "--upper", scratch / "upper", "--work", scratch / "work"]
        started = subprocess.Popen([BIN / "layerfs", "mount", "--driver", "fuse", *stack], stderr=subprocess.DEVNULL)
        client = subprocess.Popen(["ls", mount], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + chance.random() * 0.2  # the moment of the kill, not a condition
        while time.monotonic() < deadline:
            pass
        for pid in processes(scratch)[: 1 + turn % 3]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        started.wait(PATIENCE)
        client.wait(PATIENCE)
        subprocess.run(["stat", "-f", mount], capture_output=True, check=False, timeout=PATIENCE)
        for pid in processes(scratch):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while processes(scratch):
            assert time.monotonic() < deadline + PATIENCE, "a process cannot be killed"
        while subprocess.run(["umount", "-l", mount], capture_output=True, check=False).returncode == 0:
            pass
