"""How long do Prepare, Mounts, Commit and Remove take, with 10, 1,000 and 20,000 snapshots, from 1 and from 8 threads?

Commit is of a small change, without the sync of its data; what that costs stands beside it. Open is the time until a
store answers, its driver tried and what was interrupted settled. Pack is a tree of files that becomes an image, beside
mksquashfs with the same settings. Share is how many lives the thread with the fewest had, of an equal share: 1 means
that none starves.

    python -m benchmarks.lifecycle [--counts N,N] [--driver NAME] [--root DIR] [--on ext4|xfs|btrfs] [--json]

One run, the threads' numbers interleaved. `--on` makes a filesystem in a file, as root: some hosts have an ext4 without
a journal, which looks through all inodes that were removed in the last minute whenever it makes a directory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import layerfs
from benchmarks.stats import quantile

COUNTS = (10, 1000, 20_000)
THREADS = (1, 8)
LIVES = 2000  # of a snapshot, for each number of threads
SYNCED = 20  # commits with their sync
SPACE = 4 << 30  # bytes of a filesystem in a file, which is sparse
FILES, SIZE = 2000, 20_000  # of the tree that is packed; bytes of each file


def main(words: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=lambda text: [int(word) for word in text.split(",")], default=list(COUNTS))
    parser.add_argument("--driver", default="overlay")
    parser.add_argument("--root", type=Path, help="an empty directory (default: a temporary one)")
    parser.add_argument("--on", choices=("ext4", "xfs", "btrfs"), help="a new filesystem in a file below that")
    parser.add_argument("--lives", type=int, default=LIVES)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="layerfs-lifecycle-", dir=args.root or "/var/tmp") as made:
        with filesystem(Path(made), args.on) as place:
            rows = [*lifecycles(place, args), *([] if shutil.which("mksquashfs") is None else packing(place))]
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        for row in rows:
            print("  ".join(f"{name} {value}" for name, value in row.items()))
    return 0


@contextmanager
def filesystem(place: Path, kind: str | None) -> Iterator[Path]:
    """Yield a directory, on a new filesystem if a kind is given."""
    if kind is None:
        yield place
        return
    image, mnt = place / "image", place / "mnt"
    image.touch()
    os.truncate(image, SPACE)
    mnt.mkdir()
    lazy = ["-E", "lazy_itable_init=0,lazy_journal_init=0"] if kind == "ext4" else []
    subprocess.run([f"mkfs.{kind}", "-q", *lazy, image], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["mount", "-o", "loop", image, mnt], check=True)
    try:
        yield mnt
    finally:
        subprocess.run(["umount", mnt], check=True)


def lifecycles(place: Path, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Fill a store step by step, and measure at each."""
    root = place / "store"
    for count in args.counts:
        fill(root, args.driver, count)
        yield opening(root, args.driver, count)
        with layerfs.open_store(root) as store:
            snapshots = store.snapshotter(args.driver)
            for threads in THREADS:
                found, share = lives(snapshots, threads, args.lives)
                for step, times in found.items():
                    yield {"step": step, "snapshots": count, "threads": threads} | spread(times) | {"share": share}
            yield {"step": "commit with sync", "snapshots": count, "threads": 1} | spread(synced(snapshots))
            snapshots.cleanup()


def fill(root: Path, driver: str, count: int) -> None:
    """Bring a store to a number of snapshots."""
    with layerfs.open_store(root) as store:
        snapshots = store.snapshotter(driver)
        there = sum(1 for _ in snapshots.walk())
        if not there:
            snapshots.prepare("key")
            snapshots.commit("base", "key")
        for number in range(max(there, 1), count):
            snapshots.prepare(f"filler {number}", "base", {"number": str(number)})


def opening(root: Path, driver: str, count: int) -> dict[str, Any]:
    """Time how long a store takes to answer."""
    times = []
    for _ in range(10):
        begun = time.perf_counter()
        with layerfs.open_store(root) as store:
            store.snapshotter(driver)
            times.append(time.perf_counter() - begun)
    return {"step": "open", "snapshots": count, "threads": 1} | spread(times)


def lives(snapshots: layerfs.Snapshotter, threads: int, number: int) -> tuple[dict[str, list[float]], float]:
    """Let many snapshots live and die; the times of each step, and the smallest share that a thread had in them."""
    by: Counter[int] = Counter()

    def live(index: int) -> dict[str, float]:
        by[threading.get_ident()] += 1
        key, name = f"key {threads} {index}", f"name {threads} {index}"
        steps: dict[str, Callable[[], object]] = {
            "prepare": lambda: snapshots.prepare(key, "base"),
            "mounts": lambda: snapshots.mounts(key),
            "commit": lambda: snapshots.commit(name, key, volatile=True),
            "remove": lambda: snapshots.remove(name),
        }
        return {step: timed(act) for step, act in steps.items()}

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(live, range(number)))
    return {step: [one[step] for one in found] for step in found[0]}, round(min(by.values()) * threads / number, 2)


def synced(snapshots: layerfs.Snapshotter) -> list[float]:
    """Time commits of a small file with the sync of its filesystem."""
    times = []
    for index in range(SYNCED):
        snapshots.prepare("synced", "base")
        Path(os.fsdecode(snapshots.layer("synced").path), "file").write_bytes(b"x" * 4096)
        times.append(timed(lambda index=index: snapshots.commit(f"synced {index}", "synced")))  # type: ignore[misc]
        snapshots.remove(f"synced {index}")
    return times


def packing(place: Path) -> Iterator[dict[str, Any]]:
    """Time the xar driver's packing of a tree, beside mksquashfs with its settings."""
    from snapshotters.xar import pack

    tree = place / "snapshot/fs"
    tree.mkdir(parents=True)
    text = Path(__file__).read_bytes()
    for number in range(FILES):
        (tree / f"{number}").write_bytes((text + os.urandom(64)) * (SIZE // len(text) + 1))
    image = place / "image"
    flags = ["-noI", "-noX", "-b", "262144", "-comp", "zstd", "-no-progress", "-quiet", "-noappend"]
    for _ in range(3):
        for name, act in (
            ("pack, layerfs", lambda: pack(os.fsencode(tree.parent))),
            ("pack, mksquashfs", lambda: subprocess.run(["mksquashfs", tree, image, *flags], check=True)),
        ):
            yield {"step": name, "files": FILES, "s": round(timed(act), 3)}
        (tree.parent / "layer.xar").unlink()


def timed(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def spread(times: list[float]) -> dict[str, Any]:
    """Median, 99th percentile and worst, in ms."""
    return {
        "n": len(times),
        "p50 ms": round(quantile(times, 0.5) * 1000, 3),
        "p99 ms": round(quantile(times, 0.99) * 1000, 3),
        "worst ms": round(max(times) * 1000, 3),
    }


if __name__ == "__main__":
    sys.exit(main())
