"""What does a container cost with layerfs under containerd, beside containerd's own overlayfs?

    python -m benchmarks.containerd [--rounds N] [--rootfs ROOT.tar] [--peers DIR] [--json]

run      `ctr run --rm IMAGE true` of an image of ten layers, snapshotters taking turns in each round
at once  fifty of these started together, all to their end; the same
unpack   `ctr images import` of a root filesystem as one layer; the same. With containerd 2 by our diff service
rpc      Prepare, Mounts and Remove through the socket while there are 1,000 snapshots, one after the other
memory   the daemon's resident memory at 10,000 snapshots, and after as many requests as an hour of containers makes

Needs root, containerd, ctr and runc on PATH (with --peers those of containerd 2 in that directory), busybox, and
layerfs[daemon].
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc

from benchmarks.images import archive_of
from benchmarks.stats import quantile
from layerfs.daemon.messages import SNAPSHOTS, message

THEIRS = "overlayfs"
OURS = ("layerfs-overlay", "layerfs-fuse", "layerfs-xar")
SMALL, LARGE = "localhost/ten:1", "localhost/root:1"
APPLETS = ("sh", "true", "cat", "ls")
TOGETHER = 50
SNAPSHOTS_OF_RPC, LIVES = 1000, 1000
MANY, HOUR = 10_000, 40_000  # an hour of four containers at a time is 10,000 of them, and four requests each
PATIENCE = 60.0  # s
BUSYBOX = "/bin/busybox"
Row = dict[str, Any]
CONFIG = """\
version = {version}
root = "{place}/root"
state = "{place}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "{place}/c.sock"
[ttrpc]
address = ""
"""


class ContainerdNode:
    """A containerd, and a daemon that is its snapshotter, below one directory."""

    def __init__(self, place: Path, peers: Path | None) -> None:
        self.place = place
        before = [str(path) for path in (peers, Path(sys.executable).parent) if path]
        self.environment = os.environ | {"PATH": ":".join([*before, os.environ["PATH"]])}
        self.local = ["--local"] if peers else []  # not by the transfer service, which 1.6 has not
        self.daemon = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start both, and end them."""
        socket, config = self.place / "l.sock", self.place / "c.toml"
        program = shutil.which("layerfs", path=self.environment["PATH"]) or "layerfs"
        differ = str(self.place / "c.sock") if self.local else ""  # 1.6 knows no plugin for it
        serve = [
            program,
            "serve",
            "--address",
            str(socket),
            "--root",
            str(self.place / "store"),
            "--containerd",
            differ,
        ]
        kind = "containerd-2" if self.local else "containerd-1"
        printed = subprocess.run([*serve, "--print-config", kind], check=True, capture_output=True, text=True).stdout
        config.write_text(CONFIG.format(version=3 if self.local else 2, place=self.place) + printed)
        with ExitStack() as held:
            log = held.enter_context(open(self.place / "log", "wb"))
            for command in (serve, ["containerd", "--config", str(config)]):
                process = subprocess.Popen(command, stdout=log, stderr=log, env=self.environment)
                held.callback(process.wait, PATIENCE)
                held.callback(process.terminate)
                self.daemon = self.daemon or process.pid
            until(lambda: socket.exists() and self.attempt("version") == 0)
            yield

    def attempt(self, *words: str | Path) -> int:
        command = ["ctr", "--address", str(self.place / "c.sock"), *map(str, words)]
        return subprocess.run(command, env=self.environment, capture_output=True, check=False).returncode

    def ctr(self, *words: str | Path) -> float:
        """Run ctr, and return what it took [s]."""
        start = time.monotonic()
        if self.attempt(*words):
            raise SystemExit(f"ctr {' '.join(map(str, words))} failed")
        return time.monotonic() - start

    def run(self, snapshotter: str, name: str) -> float:
        """Run a container to its end."""
        return self.ctr("run", "--rm", "--snapshotter", snapshotter, SMALL, name, "/bin/true")

    def resident(self) -> float:
        """Return the daemon's memory [MiB]."""
        pages = int(Path(f"/proc/{self.daemon}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("containerd or layerfs serve did not start")
        time.sleep(0.02)


def ten_layers(place: Path) -> list[Path]:
    """Write the tars of ten layers: busybox, and nine of three hundred small files each."""
    made = []
    for number in range(10):
        made.append(place / f"layer-{number}.tar")
        with tarfile.open(made[-1], "w") as tar:
            if not number:
                add(tar, "bin/busybox", Path(BUSYBOX).read_bytes())
                for name in APPLETS:
                    link = tarfile.TarInfo(f"bin/{name}")
                    link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                    tar.addfile(link)
            for file in range(300 if number else 0):
                add(tar, f"data/{number}/{file % 20}/{file}", b"%d" % file * 500)
    return made


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o755
    tar.addfile(member, io.BytesIO(data))


def containers(node: ContainerdNode, rounds: int) -> Iterator[Row]:
    """Run containers one by one, then many at once; snapshotters take turns."""
    names = (THEIRS, *OURS)
    single: dict[str, list[float]] = {name: [] for name in names}
    many: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names if turn % 2 else names[::-1]:
            single[name] += [node.run(name, f"one-{name}-{turn}-{n}") for n in range(5)]
    with ThreadPoolExecutor(TOGETHER) as pool:
        for turn in range(max(rounds // 3, 1)):
            for name in (THEIRS, OURS[0]) if turn % 2 else (OURS[0], THEIRS):
                start = time.monotonic()
                list(pool.map(lambda n, name=name, turn=turn: node.run(name, f"m-{name}-{turn}-{n}"), range(TOGETHER)))
                many[name].append(time.monotonic() - start)
    yield from compared("run", single)
    yield from compared(f"{TOGETHER} at once", {name: times for name, times in many.items() if times})


def unpacking(node: ContainerdNode, archive: Path, rounds: int) -> Iterator[Row]:
    """Import a root filesystem and remove it."""
    times: dict[str, list[float]] = {name: [] for name in (THEIRS, *OURS)}
    for turn in range(rounds):
        for name in times if turn % 2 else reversed(times):
            os.sync()
            times[name].append(node.ctr("images", "import", *node.local, "--snapshotter", name, archive))
            node.ctr("images", "remove", "--sync", LARGE)
    yield from compared("unpack", times)


def compared(what: str, times: dict[str, list[float]]) -> Iterator[Row]:
    theirs = statistics.median(times[THEIRS])
    for name, found in times.items():
        row = {"what": what, "snapshotter": name, "n": len(found), "median_s": round(statistics.median(found), 3)}
        spread = {"least_s": round(min(found), 3), "most_s": round(max(found), 3)}
        yield row | spread | {"of_overlayfs": round(statistics.median(found) / theirs, 2)}


class SnapshotClient:
    """Requests through the daemon's socket."""

    def __init__(self, address: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix:{address}")

    def ask(self, method: str, **fields: str) -> None:
        """Send a request, and wait for the answer, which is not looked at."""
        words = {"Remove": "RemoveSnapshot", "Prepare": "PrepareSnapshot", "Commit": "CommitSnapshot"}
        request = message(SNAPSHOTS, f"{words.get(method, method)}Request")
        call = self._channel.unary_unary(f"/{SNAPSHOTS}.Snapshots/{method}")
        call(request(snapshotter=OURS[0], **fields).SerializeToString(), timeout=PATIENCE)

    def life(self, key: str) -> float:
        """Prepare a snapshot, ask for its mounts, remove it; return what that took [s]."""
        start = time.monotonic()
        self.ask("Prepare", key=key, parent="base")
        self.ask("Mounts", key=key)
        self.ask("Remove", key=key)
        return time.monotonic() - start


def requests(node: ContainerdNode) -> Iterator[Row]:
    """Ask the daemon itself."""
    client = SnapshotClient(node.place / "l.sock")
    client.ask("Prepare", key="making")
    client.ask("Commit", key="making", name="base")
    for number in range(SNAPSHOTS_OF_RPC):
        client.ask("Prepare", key=f"k{number}", parent="base")
    times = sorted(client.life(f"life {number}") for number in range(LIVES))
    shown = {f"p{share}_ms": round(quantile(times, share / 100) * 1000, 2) for share in (50, 99)}
    yield {"what": "Prepare+Mounts+Remove", "snapshots": SNAPSHOTS_OF_RPC, "n": LIVES} | shown
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: client.ask("Prepare", key=f"k{number}", parent="base"), range(1000, MANY)))
        yield {"what": "resident", "snapshots": MANY, "MiB": round(node.resident(), 1)}
        for part in range(4):
            list(pool.map(lambda n, part=part: client.life(f"hour {part} {n}"), range(HOUR // 4 // 4)))
            yield {"what": "resident", "requests": HOUR // 4 * (part + 1), "MiB": round(node.resident(), 1)}


def main(words: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rootfs", type=Path, help="a tar (default: no unpacking)")
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=("run", "unpack", "rpc"))
    args = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="layerfs-node-", dir="/var/tmp") as text:
        place = Path(text)
        small = archive_of(place, ten_layers(place), SMALL).rename(place / "small.tar")
        large = archive_of(place, [args.rootfs], LARGE) if args.rootfs else None
        node = ContainerdNode(place, args.peers)
        with node.running():
            for row in measured(node, small, large, args):
                print(json.dumps(row) if args.json else "  ".join(f"{key} {value}" for key, value in row.items()))
    return 0


def measured(node: ContainerdNode, small: Path, large: Path | None, args: argparse.Namespace) -> Iterator[Row]:
    """Yield all numbers that are asked for."""
    if args.only in (None, "run"):
        for name in (THEIRS, *OURS):
            node.ctr("images", "import", *node.local, "--snapshotter", name, small)
        yield from containers(node, args.rounds)
    if large is not None and args.only in (None, "unpack"):
        yield from unpacking(node, large, args.rounds)
    if args.only in (None, "rpc"):
        yield from requests(node)


if __name__ == "__main__":
    sys.exit(main())
