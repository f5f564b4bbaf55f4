"""The state of the kernel's caches before a sample."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

DROP = Path("/proc/sys/vm/drop_caches")
QUIET = 0.02  # seconds without CPU use that count as settled
PATIENCE = 3.0  # seconds
QUIET_SHARE = 0.15  # of one CPU, used by anything


def can_drop() -> bool:
    """Say whether cold measurements are possible: only root may drop caches."""
    return os.access(DROP, os.W_OK)


def drop() -> None:
    """Write dirty pages out, then drop page, dentry and inode caches.

    Twice: the first pass frees dentries of a stacked filesystem, which pinned inodes of the layers below.
    """
    os.sync()
    for _ in range(2):
        DROP.write_text("3")


def cpu_time(pids: Sequence[int]) -> int:
    """Return the CPU time of all threads of `pids` so far [ns]; processes that are gone count nothing."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return total


def busy_time() -> int:
    """Return the time that all CPUs together have been busy since boot [ns], in steps of 10 ms."""
    user, nice, system, _, _, interrupt, soft = map(int, Path("/proc/stat").read_text().split(maxsplit=8)[1:8])
    return (user + nice + system + interrupt + soft) * 10_000_000


def wait_quiet(patience: float) -> None:
    """Wait until the rest of the host leaves its CPUs idle: a busy host hides what waking a sleeping server costs."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        before, begun = busy_time(), time.monotonic()
        time.sleep(0.1)
        if busy_time() - before <= QUIET_SHARE * 1e9 * (time.monotonic() - begun):
            return


def settle(pids: Sequence[int]) -> None:
    """Wait until the servers have nothing left to do (imports, FORGETs), at most a few seconds."""
    deadline = time.monotonic() + PATIENCE
    before = cpu_time(pids)
    while pids and time.monotonic() < deadline:
        time.sleep(QUIET)
        now = cpu_time(pids)
        if now == before:
            return
        before = now
