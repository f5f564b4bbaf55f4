"""The compiled timing loops: built with the host's cc on first use, called as a program."""

from __future__ import annotations

import array
import hashlib
import json
import os
import resource
import select
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks import caches
from benchmarks.model import BenchError

SOURCES = tuple(Path(__file__).with_name(f"probe{part}.c") for part in ("", "_common", "_commands", "_digest"))
HEADER = Path(__file__).with_name("probe.h")
FLAGS = ("-O2", "-Wall", "-std=gnu11")
COMPLAINT = 300  # characters of what a program said last that go into the report
PATIENCE = 900  # seconds; a subject that hangs must not end the run


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass of a loop: its whole time [ns], what it counted, and the time of each operation [ns]."""

    total_ns: int
    count: int
    bytes: int
    digest: str
    times: array.array[int]
    busy_ns: int = 0
    own_ns: int = 0
    elapsed_ns: int = 1

    def others(self, servers_ns: int) -> float:
        """Return how many CPUs were busy meanwhile with neither the loop nor the servers (ticks of 10 ms: coarse)."""
        return max(0.0, (self.busy_ns - self.own_ns - servers_ns) / self.elapsed_ns)

    @property
    def us_each(self) -> float:
        """The mean time of one operation, which is what a whole pass costs divided fairly."""
        return self.total_ns / max(self.count, 1) / 1000

    @property
    def rate(self) -> float:
        """MB/s (10^6) over the whole pass."""
        return self.bytes * 1000 / max(self.total_ns, 1)


@dataclass(frozen=True, slots=True)
class Started:
    """One command of a batch: when it returned and when its mountpoint answered [ns], its status, all complaints."""

    returned: int
    answered: int
    status: int
    complaints: str = ""


def children_time() -> int:
    """Return the CPU time of all ended children so far [ns]."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((used.ru_utime + used.ru_stime) * 1e9)


@cache
def program(cache: Path) -> Path:
    """Return the probe, compiled into `cache` under a name that changes with its source."""
    text = b"".join(path.read_bytes() for path in (*SOURCES, HEADER))
    mark = hashlib.sha256(text + " ".join(FLAGS).encode()).hexdigest()[:12]
    built = cache / "bin" / f"probe-{mark}"
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        fresh = built.with_suffix(f".{os.getpid()}")
        try:
            subprocess.run(
                ["cc", *FLAGS, "-o", str(fresh), *map(str, SOURCES)], check=True, capture_output=True, text=True
            )
        except FileNotFoundError as error:
            raise BenchError("the timing loops need a C compiler: install gcc and libc6-dev") from error
        except subprocess.CalledProcessError as error:
            raise BenchError(f"the probe did not compile: {error.stderr}") from error
        fresh.rename(built)
    return built


@dataclass(frozen=True, slots=True)
class SubjectProbe:
    """The probe as run for one subject: `prefix` enters the namespace in which its mount exists."""

    cache: Path
    prefix: tuple[str, ...] = ()

    def run(self, op: str, where: Path, names: Path, number: int = 0) -> Pass:
        """Run one loop over the names in a NUL-separated list, relative to `where`."""
        with tempfile.TemporaryDirectory(prefix="probe-") as scratch:
            os.chmod(scratch, 0o777)
            out = os.path.join(scratch, "times")
            argv = [str(program(self.cache)), op, str(where), str(names), out, str(number)]
            busy, own, begun = caches.busy_time(), children_time(), time.monotonic_ns()
            said = json.loads(self._call(argv)[0])
            busy, own, begun = caches.busy_time() - busy, children_time() - own, time.monotonic_ns() - begun
            times = array.array("I")
            times.frombytes(Path(out).read_bytes())
        return Pass(said["total_ns"], said["count"], said["bytes"], said["digest"], times, busy, own, begun)

    def start(self, batch: Sequence[tuple[list[str], Path | None]]) -> tuple[int, list[Started]]:
        """Start all commands of `batch` at once; each may name a mountpoint that must answer. Total in ns."""
        words: list[str] = []
        for argv, target in batch:
            words += [str(len(argv)), str(target or ""), *argv]
        with tempfile.NamedTemporaryFile(prefix="probe-") as listing:
            listing.write("".join(word + "\0" for word in words).encode())
            listing.flush()
            os.chmod(listing.name, 0o644)
            answer, complaints = self._call([str(program(self.cache)), "mounts", listing.name, "-"])
        said = json.loads(answer)
        return said["total_ns"], [Started(one[0], one[1], one[2], complaints) for one in said["commands"]]

    def together(self, op: str, where: Path, listings: Sequence[Path]) -> list[array.array[int]]:
        """Run one loop for each list of names, all at once; return the times of their operations [ns]."""
        with tempfile.TemporaryDirectory(prefix="probe-") as scratch:
            os.chmod(scratch, 0o777)
            outs = [os.path.join(scratch, f"times{index}") for index in range(len(listings))]
            loops = [
                ([str(program(self.cache)), op, str(where), str(names), out], None)
                for names, out in zip(listings, outs, strict=True)
            ]
            _, started = self.start(loops)
            if any(one.status for one in started):
                raise BenchError(f"{op}: {started[0].complaints}")
            found = [array.array("I", Path(out).read_bytes()) for out in outs]
        return found

    def _call(self, argv: list[str]) -> tuple[str, str]:
        # Files, not pipes: a server that keeps our stderr open must not keep us waiting.
        with tempfile.TemporaryFile() as complaints, tempfile.TemporaryFile() as answer:
            child = subprocess.Popen([*self.prefix, *argv], stdin=subprocess.DEVNULL, stdout=answer, stderr=complaints)
            if not ended(child, PATIENCE):
                child.kill()
                child.wait()
                raise BenchError(f"{argv[1]} did not end within {PATIENCE} s")
            complaints.seek(0)
            answer.seek(0)
            said = " ".join(complaints.read().decode(errors="replace").split())[-COMPLAINT:]
            if child.wait():
                raise BenchError(f"{argv[1]}: {said}")
            return answer.read().decode(errors="replace").strip().splitlines()[-1], said


def ended(child: subprocess.Popen[bytes], patience: float) -> bool:
    """Wait for a process without polling it: waking up while it measures would disturb it."""
    watch = os.pidfd_open(child.pid)
    try:
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        return bool(poll.poll(patience * 1000))
    finally:
        os.close(watch)
