"""One mount of one subject: its directories, its processes, its caches."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import caches
from benchmarks.model import BenchError, BuiltTree, Site, Subject
from benchmarks.probe import Pass, Started, SubjectProbe

ROOT = Path("/var/tmp/layerfs-bench")
PATIENCE = 20.0  # seconds for a server to end after its unmount


@dataclass
class MountedSite(Site):
    """Where one subject is mounted for one sample. `home` holds mnt, upper and work, and is removed afterwards."""

    subject: Subject
    home: Path
    cache: Path
    started: Started | None = None
    pids: list[int] = field(default_factory=list)

    @property
    def probe(self) -> SubjectProbe:
        return SubjectProbe(self.cache, self.subject.prefix)

    def make(self, owner: int = 0) -> None:
        """Make the empty directories of one mount."""
        for path in (self.home, self.mnt, self.upper, self.work):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o755)
            if owner and os.geteuid() == 0:
                os.chown(path, owner, owner)

    def mount(self, layers: BuiltTree) -> Started:
        """Mount, wait for the first answer, and note the servers' pids."""
        _, [started] = self.probe.start([(self.subject.mount_command(layers, self), self.mnt)])
        if started.status:
            raise BenchError(f"the mount command ended with {started.status}: {started.complaints}")
        self.started = started
        self.find_servers()
        return started

    def find_servers(self) -> None:
        """Note the processes that serve the mount now."""
        self.pids = servers(self.home)

    def unmount(self, layers: BuiltTree) -> Started:
        """Unmount and wait until the servers are gone."""
        try:
            _, [ended] = self.probe.start([(self.subject.unmount_command(layers, self), None)])
            if not gone(self.pids):
                end(self.pids)
            return ended
        finally:
            self.pids = []

    @contextlib.contextmanager
    def mounted(self, layers: BuiltTree) -> Iterator[Path]:
        """Mount for the length of a `with`; whatever happens inside, nothing stays mounted."""
        self.mount(layers)
        try:
            yield self.mnt
        finally:
            self.unmount(layers)

    def cold(self) -> str:
        """Empty all caches and wait for the servers to have digested it; return the name of the state reached.

        Without root nothing can be dropped: the state is then `fresh`, a new mount over whatever is cached.
        """
        caches.settle(self.pids)
        if not caches.can_drop():
            return "fresh"
        caches.drop()
        caches.settle(self.pids)
        return "cold"

    def run(self, op: str, names: Path, number: int = 0, below: str = "") -> Pass:
        """Run one timing loop on the mount."""
        return self.probe.run(op, self.mnt / below, names, number)

    def clear(self) -> None:
        """Remove everything, mounts that were left behind first."""
        release(self.home)
        shutil.rmtree(self.home, ignore_errors=True)


def servers(home: Path) -> list[int]:
    """Return the processes whose command line names something in `home`: that is how each FUSE server is started."""
    mark = os.fsencode(home)
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if mark in Path(entry.path, "cmdline").read_bytes():
                found.append(int(entry.name))
    return sorted(found)


def gone(pids: list[int]) -> bool:
    """Wait until no process of `pids` runs (zombies count as gone); say whether that happened in time."""
    deadline = time.monotonic() + PATIENCE
    while any(alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def end(pids: list[int]) -> None:
    """Kill servers that outlive their mount."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Say whether `pid` is a running process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def release(home: Path) -> None:
    """Unmount lazily everything that is mounted below `home`, newest first."""
    mark = str(home).encode()
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_bytes().splitlines()]
    for point in reversed([point for point in points if point.startswith(mark)]):
        subprocess.run(["umount", "-l", os.fsdecode(point)], capture_output=True, timeout=20)


def rss(pids: list[int]) -> int:
    """Return the resident memory of `pids` [bytes]."""
    return status_sum(pids, "VmRSS:") * 1024


def pss(pids: list[int]) -> int:
    """Return the resident memory of `pids` [bytes], each shared page divided between those that map it."""
    return sum(number(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") for pid in pids) * 1024


def status_sum(pids: list[int], key: str) -> int:
    """Add up one numeric line of /proc/PID/status."""
    return sum(number(Path(f"/proc/{pid}/status"), key) for pid in pids)


def task_sum(pids: list[int], key: str) -> int:
    """Add up one numeric line of the status of every thread."""
    return sum(number(status, key) for pid in pids for status in Path(f"/proc/{pid}/task").glob("*/status"))


def number(status: Path, key: str) -> int:
    """Return the number on the line that starts with `key`; a thread that has ended counts nothing."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in status.read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1])
    return 0
