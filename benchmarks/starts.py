"""What does a short mount cost beside fuse-overlayfs: one, many at once, many that stay, and a container of podman's?

    python -m benchmarks.starts [short] [many] [stay] [podman] [--rounds N] [--count N] [--user NAME]

short: mount, then (ls, create, read), then unmount; with the processor's time of all of it, children too, where root
can count that (by a cgroup, which a run that is killed leaves behind). many: so many mounts begin at once; until the
last one's root is listed. stay: the memory that so many servers hold (PSS). podman: `podman run` of `true`, rootless,
with either as mount program, for NAME where we are root. All are taken in turns, one of each in a round; a first round
that is not counted warms caches and lets a process stand by. What is printed are medians, with the quartiles, and the
median of the rounds' ratios to fuse-overlayfs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.mounted_site import pss
from benchmarks.stats import spread
from benchmarks.subjects.layerfs_mount import compile_package

PEER = "fuse-overlayfs"
OURS = str(Path(sys.executable).with_name("layerfs-mount"))
LAYERS = 10
ACCOUNTS = Path("/sys/fs/cgroup/cpuacct")  # cgroup v1; with v2 the processor's time is not counted
STORAGE = """[storage]
driver = "overlay"
graphroot = "{home}/graph"
runroot = "{home}/run"
[storage.options.overlay]
mount_program = "{program}"
"""
RUN = ("podman", "--cgroup-manager=cgroupfs", "--runtime=runc")
LIMITS = ("--rm", "--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096")
# Short: with a run root of more than 50 characters, what podman leaves to clean up refuses that, and `podman run` waits
# 20 s for it in vain.
PREFIX = "starts-"
SETTLED = 2.0  # seconds after the first round, in which what is left behind becomes ready

Sample = dict[str, float]


class Stacks:
    """So many stacks of the same layers."""

    def __init__(self, base: Path, count: int) -> None:
        self.base = base
        self.lowers = [base / f"l{number}" for number in range(LAYERS)]
        for lower in self.lowers:
            lower.mkdir()
            (lower / f"in-{lower.name}").write_bytes(b"x" * 4096)
        self.points = [base / f"m{number}" for number in range(count)]
        for point in self.points:
            for path in (point, self.of(point, "u"), self.of(point, "w")):
                path.mkdir()

    def of(self, point: Path, kind: str) -> Path:
        return point.with_name(kind + point.name)

    def command(self, program: str, point: Path) -> list[str]:
        lowers = ":".join(map(str, self.lowers))
        return [
            program,
            "-o",
            f"lowerdir={lowers},upperdir={self.of(point, 'u')},workdir={self.of(point, 'w')}",
            str(point),
        ]

    def short(self, program: str) -> Sample:
        """Mount, use and unmount one."""
        point = self.points[0]
        spent, began = processor_time(), time.perf_counter()
        subprocess.run(self.command(program, point), check=True, stderr=subprocess.DEVNULL)
        mounted = time.perf_counter()
        os.listdir(point)
        (point / f"new-{time.time_ns()}").write_bytes(b"new")
        (point / "in-l0").read_bytes()
        used = time.perf_counter()
        unmount(point)
        ended = time.perf_counter()
        time.sleep(0.2)  # the server ends
        parts = {"mount": mounted - began, "use": used - mounted, "unmount": ended - used, "whole": ended - began}
        sample = {f"{name} ms": value * 1000 for name, value in parts.items()}
        return sample | ({"cpu ms": (processor_time() - spent) / 1e6} if spent else {})

    def many(self, program: str) -> Sample:
        """Mount all at once."""
        spent, began = processor_time(), time.perf_counter()
        started = [subprocess.Popen(self.command(program, point), stderr=subprocess.DEVNULL) for point in self.points]
        failed = sum(process.wait() != 0 for process in started)
        for point in self.points:
            os.listdir(point)
        ended = time.perf_counter()
        sample = {"all ms": (ended - began) * 1000}
        sample |= {"cpu ms": (processor_time() - spent) / 1e6} if spent else {}
        for point in self.points:
            unmount(point)
        if failed:
            raise SystemExit(f"{failed} of {len(started)} mounts failed")
        time.sleep(0.5)
        return sample

    def stay(self, program: str) -> Sample:
        """Mount one after the other, use each a little, and see what the servers hold."""
        for point in self.points:
            subprocess.run(self.command(program, point), check=True, stderr=subprocess.DEVNULL)
            os.listdir(point)
            (point / "new").write_bytes(b"new")
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and self._serves(path)]
        sample = {"MB each": pss(pids) / len(self.points) / 1e6, "processes": float(len(pids))}
        for point in self.points:
            unmount(point)
        time.sleep(0.5)
        return sample

    def _serves(self, process: Path) -> bool:
        try:
            return f"{self.base}/m".encode() in (process / "cmdline").read_bytes()
        except OSError:
            return False


def unmount(point: Path) -> None:
    """Unmount as who mounted would."""
    subprocess.run(["umount", point] if os.geteuid() == 0 else ["fusermount3", "-u", point], check=True)


def processor_time() -> int:
    """Return what all processes of our cgroup have used [ns]; 0 where it is not known."""
    try:
        path = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if ":cpuacct:" in line)
        own = ACCOUNTS / path.rpartition(":")[2].lstrip("/")
        return int((own / "cpuacct.usage").read_text()) if own != ACCOUNTS else 0
    except (OSError, StopIteration):
        return 0


@contextmanager
def accounted() -> Iterator[None]:
    """Have a cgroup of our own, where root can have one."""
    try:
        own = Path(tempfile.mkdtemp(prefix=f"layerfs-{PREFIX}", dir=ACCOUNTS))
        (own / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        yield
        return
    try:
        yield
    finally:
        (ACCOUNTS / "cgroup.procs").write_text(str(os.getpid()))
        for pid in (own / "cgroup.procs").read_text().split():  # who stands by for us
            (ACCOUNTS / "cgroup.procs").write_text(pid)
        own.rmdir()


class Podman:
    """Containers of one person, with either program."""

    def __init__(self, base: Path, user: str | None) -> None:
        self._base, self._user = base, user
        archive = base / "image.tar"
        busybox = shutil.which("busybox")
        if busybox is None:
            raise SystemExit("no busybox")
        with tarfile.open(archive, "w") as tar:
            for name in ("bin", "dev", "proc", "sys", "etc", "tmp"):
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            tar.add(busybox, "bin/busybox")
            entry = tarfile.TarInfo("bin/true")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
        self._homes = {program: self._home(program, archive) for program in (PEER, OURS)}

    def _home(self, program: str, archive: Path) -> Path:
        home = self._base / Path(program).name[:2]
        home.mkdir(mode=0o700)
        (home / "storage.conf").write_text(STORAGE.format(home=home, program=shutil.which(program)))
        if self._user:
            for path in (self._base, home, home / "storage.conf"):
                shutil.chown(path, self._user, self._user)
        self._podman(home, "import", str(archive), "localhost/base")
        return home

    def _podman(self, home: Path, verb: str, *words: str) -> None:
        environment = {"HOME": home, "XDG_RUNTIME_DIR": home, "CONTAINERS_STORAGE_CONF": home / "storage.conf"}
        command = [*RUN, verb, *(LIMITS if verb == "run" else ()), *words]
        who = ["setpriv", f"--reuid={self._user}", f"--regid={self._user}", "--init-groups"] if self._user else []
        path = {"PATH": os.environ["PATH"]}
        text = {name: str(value) for name, value in environment.items()}
        done = subprocess.run([*who, *command], env=text | path, cwd=home, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"podman {verb}: {done.stderr}")

    def run(self, program: str) -> Sample:
        """Run a container that does nothing."""
        spent, began = processor_time(), time.perf_counter()
        self._podman(self._homes[program], "run", "localhost/base", "/bin/true")
        sample = {"run ms": (time.perf_counter() - began) * 1000}
        time.sleep(0.2)  # what podman leaves to clean up ends, and the server
        return sample | ({"cpu ms": (processor_time() - spent) / 1e6} if spent else {})

    def close(self) -> None:
        """End what keeps podman's namespaces, and remove what belongs to many users in there."""
        for home in self._homes.values():
            self._podman(home, "unshare", "rm", "-rf", str(home / "graph"))
            self._podman(home, "system", "migrate")


def measure(what: str, take: Callable[[str], Sample], rounds: int) -> None:
    """Take turns, and print."""
    taken: dict[str, list[Sample]] = {PEER: [], OURS: []}
    for number in range(rounds + 1):
        for program, samples in taken.items():
            sample = take(program)
            if number:
                samples.append(sample)
        if not number:
            time.sleep(SETTLED)
    for name in taken[OURS][0]:
        cells = []
        for samples in taken.values():
            found = spread([sample[name] for sample in samples])
            cells.append(f"{found.median:9.2f} ({found.low:.2f} to {found.high:.2f})")
        ratios = [ours[name] / peer[name] for peer, ours in zip(*taken.values(), strict=True) if peer[name]]
        ratio = f"ratio {spread(ratios).median:.2f}" if ratios else ""
        print(f"{what:7} {name:11} fuse-overlayfs {cells[0]:34} layerfs {cells[1]:34} {ratio}", flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="WHAT", help="short, many, stay, podman (all but podman)")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--count", type=int, help="mounts: 64 at once, 50 that stay")
    parser.add_argument("--user", help="whose containers, for root")
    args = parser.parse_args(words)
    compile_package()
    os.environ.pop("LAYERFS_STANDBY", None)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir="/var/tmp") as place, accounted():
        Path(place).chmod(0o755)
        for what in args.what or ["short", "many", "stay"]:
            base = Path(place, what)
            base.mkdir()
            if what == "podman":
                containers = Podman(base, args.user)
                measure(what, containers.run, args.rounds)
                containers.close()
                continue
            counts = {"short": 1, "many": args.count or 64, "stay": args.count or 50}
            stacks = Stacks(base, counts[what])
            measure(what, getattr(stacks, what), args.rounds if what == "short" else max(1, args.rounds // 4))
    return 0


if __name__ == "__main__":
    sys.exit(main())
