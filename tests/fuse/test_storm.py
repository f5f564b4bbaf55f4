"""Clients, killed clients and a kernel that forgets all the time, with the lane and without: nothing is wrong or lost.

Each thread checks what it alone knows; at the end the whole tree is compared, and the server holds no more descriptors
than when it began.
"""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.host import BIN, require
from tests.waiting import wait_until

SECONDS = 3.0
FILES = 60
DROP = Path("/proc/sys/vm/drop_caches")


class Storm:
    """Threads that go on until the time is over; the first error ends all."""

    def __init__(self) -> None:
        self._end = time.monotonic() + SECONDS
        self._failure: BaseException | None = None
        self._threads: list[threading.Thread] = []

    def start(self, step: Callable[[int], None]) -> None:
        def work() -> None:
            turn = 0
            try:
                while time.monotonic() < self._end and self._failure is None:
                    step(turn)
                    turn += 1
            except BaseException as error:
                self._failure = error

        self._threads.append(threading.Thread(target=work))
        self._threads[-1].start()

    def finish(self) -> None:
        for thread in self._threads:
            thread.join()
        if self._failure is not None:
            raise self._failure


def content(name: str) -> bytes:
    return name.encode() * 50


def server_of(mountpoint: Path) -> int:
    """The process that has the mount's device, from `layerfs status`."""
    import json

    told = subprocess.run([BIN / "layerfs", "status", "--json"], capture_output=True, check=True).stdout
    (pid,) = (each["pid"] for each in json.loads(told) if each["mountpoint"] == str(mountpoint))
    return int(pid)


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def forget(turn: int) -> None:
    """Have the kernel drop dentries and inodes, and now and then pages."""
    DROP.write_text("2" if turn % 5 else "3")


def churn(tree: Path, turn: int) -> None:
    """Make, link, rename and unlink names of this thread's own."""
    made, link, moved = (tree / f"d/{kind}-{turn % 7}" for kind in ("made", "link", "moved"))
    made.write_bytes(content(str(turn)))
    os.link(made, link)
    made.rename(moved)
    assert not made.exists() and moved.stat().st_nlink == 2
    assert link.read_bytes() == moved.read_bytes() == content(str(turn))
    link.unlink()
    moved.unlink()
    assert not moved.exists()


def take_down(tree: Path, gone: set[str], turn: int) -> None:
    """Unlink a file of the layers while it is open, and read it to its end."""
    name = f"f{turn}"
    if turn >= FILES // 2:
        time.sleep(0.01)  # the rest is for the readers
        return
    with open(tree / "d" / name, "rb") as file:
        (tree / "d" / name).unlink()
        gone.add(name)
        assert file.read() == content(name) and os.fstat(file.fileno()).st_nlink == 0
    assert not (tree / "d" / name).exists()


def look(tree: Path, turn: int) -> None:
    """Read what nobody changes, list the directory, ask for what is not there."""
    name = f"f{FILES // 2 + turn % (FILES // 2)}"
    assert (tree / "d" / name).read_bytes() == content(name)
    assert os.readlink(tree / "d/link-to") == "target"
    assert {f"f{number}" for number in range(FILES // 2, FILES)} <= set(os.listdir(tree / "d"))
    assert not (tree / f"d/nothing-{turn}").exists()


def kill(tree: Path, dice: random.Random) -> None:
    """Start a client that walks, reads and makes, and kill it in the middle."""
    script = "while :; do cat d/f4?; ls -l d; find . -type l; echo x >d/killed; rm d/killed; done"
    client = subprocess.Popen(["sh", "-c", script], cwd=tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              start_new_session=True)  # fmt: skip
    time.sleep(dice.random() / 10)
    os.killpg(client.pid, signal.SIGKILL)
    client.wait()


def test_a_storm_of_changes_beside_a_kernel_that_forgets(lane: str, scratch: Path) -> None:
    require("root", "fuse")
    mountpoint = scratch / "mnt"
    for place in ("upper", "work", "mnt", "lower/d"):
        (scratch / place).mkdir(parents=True)
    for number in range(FILES):
        (scratch / f"lower/d/f{number}").write_bytes(content(f"f{number}"))
    (scratch / "lower/d/link-to").symlink_to("target")
    options = f"lowerdir={scratch}/lower,upperdir={scratch}/upper,workdir={scratch}/work"
    subprocess.run([BIN / "layerfs", "mount", "--driver=fuse", "-o", options, mountpoint], check=True)
    gone: set[str] = set()
    try:
        pid = server_of(mountpoint)
        churn(mountpoint, 0)
        wait_until(lambda: (mountpoint / "d/f1").read_bytes() == content("f1"))
        DROP.write_text("2")
        before = descriptors(pid)
        storm = Storm()
        dice = random.Random(1)
        storm.start(forget)
        storm.start(lambda turn: churn(mountpoint, turn))
        storm.start(lambda turn: take_down(mountpoint, gone, turn))
        storm.start(lambda turn: look(mountpoint, turn))
        storm.start(lambda turn: kill(mountpoint, dice))
        storm.finish()
        (mountpoint / "d/killed").unlink(missing_ok=True)
        left = {f"f{number}" for number in range(FILES)} - gone
        assert set(os.listdir(mountpoint / "d")) == left | {"link-to"}
        for name in left:
            assert (mountpoint / "d" / name).read_bytes() == content(name)
        DROP.write_text("2")
        wait_until(lambda: descriptors(pid) <= before + 8)  # directories of the layers stay open
    finally:
        subprocess.run([BIN / "layerfs", "umount", mountpoint], check=False)
