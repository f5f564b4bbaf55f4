"""Facts of the host without which a number means nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from benchmarks import caches
from benchmarks.probe import SubjectProbe


def facts(cache: Path) -> dict[str, Any]:
    """Return the fields of a host record."""
    kind, options = filesystem(cache)
    return {
        "kernel": f"{os.uname().sysname} {os.uname().release}",
        "cpus": len(os.sched_getaffinity(0)),
        "cpu_model": line_of("/proc/cpuinfo", "model name"),
        "memory_mb": int(line_of("/proc/meminfo", "MemTotal").split()[0]) // 1024,
        "filesystem": kind,
        "mount_options": options,
        "python": platform.python_version(),
        "cc": subprocess.run(["cc", "--version"], capture_output=True, text=True).stdout.splitlines()[0],
        "root": os.geteuid() == 0,
        "caches_droppable": caches.can_drop(),
        "load": os.getloadavg()[0],
        "loop_ns": loop_cost(cache),
    }


def line_of(path: str, key: str) -> str:
    """Return what follows the colon of the first line that starts with `key`."""
    for line in Path(path).read_text().splitlines():
        if line.startswith(key):
            return line.partition(":")[2].strip()
    return "unknown"


def filesystem(path: Path) -> tuple[str, str]:
    """Return the type and options of the filesystem that holds `path`: the longest mountpoint above it."""
    best, kind, options = "", "unknown", ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4]
        if path.resolve().is_relative_to(point) and len(point) >= len(best):
            best, kind, options = point, after.split()[0], before.split()[5]
    return kind, options


def loop_cost(cache: Path) -> float:
    """Return what the probe's loop itself costs for each operation [ns]: the clock read twice, the time kept."""
    names = cache / "nothing"
    names.write_bytes(b"x\0" * 100_000)
    return SubjectProbe(cache).run("nothing", cache, names).us_each * 1000
