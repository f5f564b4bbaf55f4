"""A served mount as its users see it: data, bugs, many clients, kills, and every way out."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fuse.slow import abort
from tests.host import PROJECT
from tests.waiting import PATIENCE, wait_until

Start = Callable[..., "Served"]


class Served:
    """tests.fuse.memory in a process of its own."""

    def __init__(self, mount: Path, *words: str) -> None:
        self.mount = mount
        command = [sys.executable, "-m", "tests.fuse.memory", str(mount), *words]
        self.process = subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: self.mounted or self.process.poll() is not None)

    @property
    def mounted(self) -> bool:
        return self._mounted_in(Path("/proc/self/mountinfo"))

    def _mounted_in(self, table: Path) -> bool:
        return b" %s " % os.fsencode(self.mount) in table.read_bytes()

    def _held_elsewhere(self) -> bool:
        """Tell whether the mount is gone from here, and still in another mount namespace."""
        if self.mounted:
            return False
        for table in Path("/proc").glob("[0-9]*/mountinfo"):
            with suppress(OSError):
                if self._mounted_in(table):
                    return True
        return False

    def log(self) -> list[str]:
        return (self.mount / "log").read_text().splitlines()

    def cpu(self) -> int:
        """Clock ticks used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2].split()
        return int(fields[11]) + int(fields[12])

    def end(self) -> str:
        """Wait for a clean end that leaves no mount; return what was logged.

        A mount namespace that somebody made meanwhile (another test's `unshare -m`) holds a copy of the mount, and the
        server serves it on. Then it is told to end.
        """
        wait_until(lambda: self.process.poll() is not None or self._held_elsewhere())
        if self.process.poll() is None:
            self.process.terminate()
        _, said = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, said
        assert not self.mounted
        return said

    def unmount(self) -> str:
        subprocess.run(["fusermount3", "-u", str(self.mount)], check=True, timeout=PATIENCE)
        return self.end()


@pytest.fixture
def start(scratch: Path, require: Callable[..., None]) -> Iterator[Start]:
    """Start a server on a fresh mountpoint; one that is left over is killed."""
    require("fuse")
    running: list[Served] = []

    def go(*words: str) -> Served:
        mount = scratch / f"m{len(running)}"
        mount.mkdir()
        running.append(Served(mount, *words))
        return running[-1]

    yield go
    for served in running:
        served.process.kill()
        served.process.communicate(timeout=PATIENCE)


@pytest.mark.parametrize("words", [[], ["writeback"]])
def test_data_comes_back_and_large_writes_are_one_request_of_a_megabyte(start: Start, words: list[str]) -> None:
    served = start(*words)
    data = os.urandom(5 << 20)
    (served.mount / "file").write_bytes(data)
    descriptor = os.open(served.mount / "file", os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    assert (served.mount / "file").read_bytes() == data
    assert "write 1048576" in served.log()
    served.unmount()


def test_kernel_does_not_ask_for_capabilities_at_every_write(start: Start) -> None:
    served = start()
    with open(served.mount / "file", "wb", buffering=0) as file:
        for _ in range(100):
            file.write(b"x" * 100)
    log = served.log()
    assert len([line for line in log if line.startswith("write ")]) >= 100
    assert log.count("getxattr security.capability") <= 1, "HANDLE_KILLPRIV_V2 is not in force"
    served.unmount()


@pytest.mark.parametrize(
    ("name", "number", "logged"),
    [("bug", errno.EIO, "ZeroDivisionError"), ("nothing", errno.EIO, "returned None"), ("denied", errno.EPERM, "")],
)
def test_a_bug_is_an_error_for_its_client_and_nobody_else(start: Start, name: str, number: int, logged: str) -> None:
    served = start()
    with pytest.raises(OSError) as caught:
        os.stat(served.mount / name)
    assert caught.value.errno == number
    assert os.listdir(served.mount) == ["log"]
    said = served.unmount()
    assert logged in said and bool(said) == bool(logged)


@pytest.mark.parametrize("name", ["nap", "slow"])
def test_others_are_answered_while_a_handler_waits(start: Start, name: str) -> None:
    served = start()
    waiting = subprocess.Popen(["stat", str(served.mount / name)], stderr=subprocess.DEVNULL)
    while waiting.poll() is None:
        assert os.listdir(served.mount) == ["log"]
    assert waiting.returncode == 1
    served.unmount()


def test_sixteen_clients_at_once_see_their_own_files(start: Start) -> None:
    served = start("writeback")
    wrong: list[str] = []

    def client(number: int) -> None:
        for turn in range(20):
            path = served.mount / f"{number}.{turn}"
            path.write_text(path.name * 1000)
            if path.read_text() != path.name * 1000:
                wrong.append(path.name)
            path.unlink()

    clients = [threading.Thread(target=client, args=[number]) for number in range(16)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join(PATIENCE)
    assert not wrong and os.listdir(served.mount) == ["log"]
    served.unmount()


def test_a_killed_client_never_stops_the_server(start: Start) -> None:
    """The kernel took a request back between poll and read, and the server slept in read with a thread's result."""
    served = start()
    for _ in range(20):
        client = subprocess.Popen(["python3", "-c", _STATS, str(served.mount)], stdout=subprocess.PIPE)
        assert client.stdout is not None
        client.stdout.read(1)
        slow = subprocess.Popen(["stat", str(served.mount / "slow")], stderr=subprocess.DEVNULL)
        client.kill()
        client.communicate()
        assert slow.wait(PATIENCE) == 1
    assert served.unmount() == ""


_STATS = """
import os, sys
print("x", flush=True)
while True:
    try:
        os.stat(sys.argv[1] + "/absent")
    except FileNotFoundError:
        pass
"""


def test_a_client_killed_while_it_waits_goes_at_the_answer_and_the_server_stays(start: Start) -> None:
    served = start()
    waiting = [subprocess.Popen(["stat", str(served.mount / "slow")]) for _ in range(12)]
    for client in waiting:
        client.kill()
    for client in waiting:
        client.wait(PATIENCE)
    assert os.listdir(served.mount) == ["log"]
    assert served.unmount() == ""


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "ALRM", "PROF", "RTMIN"])
def test_a_signal_unmounts(start: Start, name: str) -> None:
    """Only two did: a terminal that closed left a dead mount, and what was not written back was lost."""
    number = getattr(signal, f"SIG{name}")
    served = start()
    served.process.send_signal(number)
    assert served.end() == ""


def test_a_signal_writes_back_what_is_dirty_although_the_mount_is_in_use(start: Start) -> None:
    served = start("writeback")
    descriptor = os.open(served.mount / "file", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"dirty")
    served.process.terminate()
    assert "wrote 5 at the end" in served.end()
    with pytest.raises(OSError) as caught:
        os.write(descriptor, b"more")
        os.fsync(descriptor)
    assert caught.value.errno == errno.ENOTCONN
    with pytest.raises(OSError):
        os.close(descriptor)


def test_a_lazy_unmount_is_served_until_the_last_user_goes(start: Start) -> None:
    served = start()
    with open(served.mount / "file", "wb", buffering=0) as file:
        subprocess.run(["fusermount3", "-u", "-z", str(served.mount)], check=True, timeout=PATIENCE)
        assert file.write(b"still served") == 12
        assert served.process.poll() is None
    served.end()


def test_a_request_that_is_never_answered_does_not_hold_up_the_end(start: Start) -> None:
    served = start()
    waiting = subprocess.Popen(["stat", str(served.mount / "forever")], stderr=subprocess.DEVNULL)
    wait_until(lambda: Path(f"/proc/{waiting.pid}/wchan").read_text() == "request_wait_answer")
    served.process.terminate()
    served.end()
    assert waiting.wait(PATIENCE) == 1


def test_an_aborted_connection_ends_the_server_and_clears_the_mountpoint(
    start: Start, require: Callable[..., None]
) -> None:
    require("root")
    served = start()
    abort(os.minor(os.stat(served.mount).st_dev))
    served.end()


def test_an_idle_mount_uses_no_cpu(start: Start) -> None:
    served = start()
    os.listdir(served.mount)

    def is_idle() -> bool:
        before = served.cpu()
        time.sleep(1)  # the condition is that nothing happens; what the start has left to do may still happen before
        return served.cpu() == before

    wait_until(is_idle, "a second without work")
    served.unmount()


def test_the_process_is_called_layerfs_and_has_all_descriptors(start: Start) -> None:
    served = start()
    wait_until(lambda: Path(f"/proc/{served.process.pid}/comm").read_text() == "layerfs\n")
    limits = Path(f"/proc/{served.process.pid}/limits").read_text()
    soft, hard = next(line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files"))
    assert soft == hard
    served.unmount()


def test_a_signal_ends_a_server_whose_mount_another_namespace_holds(start: Start, require: Callable[..., None]) -> None:
    require("root")
    served = start()
    holder = subprocess.Popen(["unshare", "--mount", "sh", "-c", "echo; exec sleep 300"], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    try:
        holder.stdout.readline()
        served.process.terminate()
        served.end()
    finally:
        holder.kill()
        holder.communicate()
