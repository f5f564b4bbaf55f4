"""What does it cost to take an image in?

    python -m benchmarks.images [--rounds N] [--compression zstd] [--small 10] [LAYER.tar...]

Ours beside containerd, umoci and podman, with `pigz -dc | tar x` of the first layer as the floor. The image is made of
the given uncompressed layers (default: one of this host's documentation and Python files; --small N: N layers of 2,700
files of at most 4 KiB each). All programs take their turns in each round, each on an empty store on the same
filesystem. Shown for each: wall time and CPU time [s], the daemon's counted in, as median and spread over the rounds,
the largest resident memory, and what was read from disk and written, as the kernel counts it for the process.
"""

import argparse
import compileall
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import layerfs
import snapshotters
from layerfs.oci.commit import NewImage, commit
from layerfs.oci.export import export
from layerfs.oci.images import Images
from layerfs.oci.layer import Destination, apply_layer
from layerfs.oci.streams import reader_of
from layerfs.oci.unpack import chain_ids
from layerfs.snapshots.library import open_store

NAME = "localhost/measured:1"
DEFAULT = ("usr/share/doc", "usr/lib/python3", "usr/share/perl", "usr/include")
CONTAINERD = """\
version = 2
root = "PLACE/containerd"
state = "PLACE/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "PLACE/c.sock"
[ttrpc]
address = ""
"""


@dataclass
class Peer:
    """One way to take the image in: a command line for a fresh directory, and the daemon that works for it."""

    name: str
    command: Callable[[Path], list[str]]
    daemon: int = 0
    after: Callable[[], None] = lambda: None
    before: Callable[[Path], None] = lambda run: None
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: int = 0
    read: int = 0
    written: int = 0

    def measure(self, place: Path) -> None:
        """Run once, on an empty store."""
        place.mkdir()
        self.before(place)
        os.sync()
        before, moved, begin = _cpu_of(self.daemon), _io_of(self.daemon), time.perf_counter()
        program = subprocess.Popen(self.command(place), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(program.pid, 0)
        program.returncode = status
        if status:
            sys.exit(f"benchmarks: {self.name} ends with {status}")
        self.wall.append(time.perf_counter() - begin)
        self.cpu.append(usage.ru_utime + usage.ru_stime + _cpu_of(self.daemon) - before)
        self.memory = max(self.memory, usage.ru_maxrss // 1024)
        now = _io_of(self.daemon)
        self.read = usage.ru_inblock * 512 + now[0] - moved[0]
        self.written = usage.ru_oublock * 512 + now[1] - moved[1]
        self.after()
        shutil.rmtree(place)


def as_installed() -> None:
    """Have our modules compiled, as an installed package has them: who may not write compiles at each start."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for package in (layerfs, snapshotters):
        compileall.compile_dir(os.path.dirname(os.fspath(package.__file__ or "")), quiet=2)


def _cpu_of(pid: int) -> float:
    """Return the CPU time of a process and of its children that have ended [s]; none for 0."""
    if not pid:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _io_of(pid: int) -> tuple[int, int]:
    """Return what a process has read from disk and written [bytes]; none for 0."""
    if not pid:
        return 0, 0
    lines = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(lines["read_bytes"]), int(lines["write_bytes"])


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.images", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="on which filesystem (default: TMPDIR)")
    parser.add_argument("--compression", choices=("gzip", "zstd"), default="gzip")
    parser.add_argument("--small", type=int, default=0, metavar="N", help="layers of small files")
    parser.add_argument("layers", nargs="*", type=Path)
    args = parser.parse_args(words)
    as_installed()
    place = Path(tempfile.mkdtemp(prefix="layerfs-images-", dir=args.directory))
    daemon = None
    try:
        layers = _small(place, args.small) if args.small else args.layers or [_default(place)]
        archive = archive_of(place, layers, compression=args.compression)
        daemon = _containerd(place) if shutil.which("containerd") else None
        peers = _peers(place, archive, daemon)
        if args.compression == "zstd":  # which umoci does not know, nor does a pipe of gzip
            peers = [peer for peer in peers if not peer.name.startswith(("umoci", "pigz", "gzip"))]
        for number in range(args.rounds):
            for peer in peers if number % 2 == 0 else peers[::-1]:
                peer.measure(place / "run")
        show(peers)
    finally:
        if daemon is not None:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait()
        shutil.rmtree(place)
    return 0


def _default(place: Path) -> Path:
    there = [name for name in DEFAULT if Path("/", name).exists()]
    subprocess.run(["tar", "-C", "/", "-cf", place / "layer.tar", *there], check=True)
    return place / "layer.tar"


def _small(place: Path, count: int) -> list[Path]:
    """Make layers of small files, which no compressor makes much smaller."""
    made = []
    for layer in range(count):
        tree = place / f"tree{layer}"
        for number in range(2700):
            path = tree / f"d{layer}-{number // 50}" / f"f{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(number * 37 % 4096 // 2).hex().encode())
        made.append(place / f"layer{layer}.tar")
        subprocess.run(["tar", "-C", tree, "-cf", made[-1], "."], check=True)
        shutil.rmtree(tree)
    return made


def archive_of(place: Path, layers: Sequence[Path], name: str = NAME, compression: str = "gzip") -> Path:
    """Make an OCI archive of layers, the lowest first, by our own commits."""
    diff_ids = []
    with open_store(place / "made") as store:
        snapshots, images = store.snapshotter("overlay"), Images(store)
        parent = ""
        for layer in layers:
            snapshots.prepare("work", parent)
            own = os.open(snapshots.layer("work").path, os.O_RDONLY)
            source = os.open(layer, os.O_RDONLY)
            apply_layer(reader_of(source), Destination(own))
            os.close(own)
            os.close(source)
            wanted = NewImage(created="2026-01-01T00:00:00Z", compression=compression)
            done = commit(images, snapshots, "work", name, wanted)
            diff_ids.append(done.layer.diff_id)
            parent = chain_ids(diff_ids)[-1]
            snapshots.commit(parent, "work")
        export(images, images.get(name), os.fsencode(place / "image.tar"), "oci")
    shutil.rmtree(place / "made")
    return place / "image.tar"


def _containerd(place: Path) -> "subprocess.Popen[bytes]":
    (place / "c.toml").write_text(CONTAINERD.replace("PLACE", str(place)))
    with (place / "c.log").open("wb") as log:
        program = subprocess.Popen(["containerd", "-c", place / "c.toml"], stdout=log, stderr=log)
    while not (place / "c.sock").exists():
        time.sleep(0.05)
    return program


def _peers(place: Path, archive: Path, daemon: "subprocess.Popen[bytes] | None") -> list[Peer]:
    """Return who takes part: whatever is installed."""
    layout, layer = place / "layout", place / "layer.gz"
    layout.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", layout], check=True)
    top = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
    manifest = json.loads((layout / "blobs" / top.replace(":", "/")).read_text())
    shutil.copy(layout / "blobs" / manifest["layers"][0]["digest"].replace(":", "/"), layer)
    ours = [sys.executable, "-m", "layerfs.cli.main", "image", "import", str(archive)]

    def taking_in(name: str) -> Callable[[Path], list[str]]:
        return lambda run: [*ours, "--snapshotter", name, "--root", str(run / "store")]

    found = [Peer("layerfs overlay", taking_in("overlay")), Peer("layerfs xar", taking_in("xar"))]
    if daemon is not None:
        ctr = ["ctr", "-a", str(place / "c.sock"), "images"]

        def remove() -> None:
            subprocess.run([*ctr, "rm", "--sync", NAME], check=True, stdout=subprocess.DEVNULL)

        found.append(Peer("ctr images import", lambda run: [*ctr, "import", str(archive)], daemon.pid, remove))
    if shutil.which("umoci"):
        found.append(
            Peer("umoci unpack", lambda run: ["umoci", "unpack", "--image", f"{layout}:{NAME}", str(run / "u")])
        )
    if shutil.which("podman"):
        own = ["podman", "--storage-driver", "overlay"]
        found.append(
            Peer(
                "podman load",
                lambda run: [*own, "--root", str(run / "p"), "--runroot", str(run / "r"), "load", "-i", str(archive)],
            )
        )
    unzip = "pigz" if shutil.which("pigz") else "gzip"
    found.append(Peer(f"{unzip} | tar, first layer", lambda run: ["sh", "-c", f"{unzip} -dc {layer} | tar -xC {run}"]))
    return found


def show(peers: Sequence[Peer]) -> None:
    print(f"{'':28}{'wall':>8}{'spread':>8}{'CPU':>8}{'spread':>8}{'MiB':>8}{'read MB':>9}{'written':>9}")
    for peer in peers:
        wall, cpu = statistics.median(peer.wall), statistics.median(peer.cpu)
        spreads = (max(peer.wall) - min(peer.wall), max(peer.cpu) - min(peer.cpu))
        print(f"{peer.name:28}{wall:8.2f}{spreads[0]:8.2f}{cpu:8.2f}{spreads[1]:8.2f}{peer.memory:8}", end="")
        print(f"{peer.read / 1e6:9.0f}{peer.written / 1e6:9.0f}")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
