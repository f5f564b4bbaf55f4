"""What do lookups and mounting cost over K, with the layers of real plans packed and mounted?

    python -m benchmarks.planned pack ROOT DIR [--ks 4,8,...] [--planners plan,ostree]
    python -m benchmarks.planned measure DIR [--rounds N] [--planning planning.json]

`pack` plans ROOT, a Debian root filesystem, and packs a copy of it whose files are empty, since lookups do not read.
`measure` mounts each pack by each driver, with cold caches, and takes the time until the root is listed, for each of
3,000 names that are there, and of as many that are not. It writes measured.json, prices.json (what layerfs.plan reads)
and, with what benchmarks.planning measured, curve.svg: bytes sent for each build against the time of a lookup.
Needs root. Rounds are interleaved; numbers are medians.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from math import inf
from pathlib import Path
from statistics import median
from typing import Any, Final

from layerfs.plan.baselines import BASELINES
from layerfs.plan.cost import Prices
from layerfs.plan.document import describe
from layerfs.plan.planner import make_plan
from layerfs.plan.record import source_of
from layerfs.plan.sources import SourceSpec, opened
from layerfs.plan.units import make_units
from layerfs.xar.search import Search

DROP: Final = Path("/proc/sys/vm/drop_caches")
LAYERFS: Final = [sys.executable, "-m", "layerfs.cli.main"]
KS: Final = (4, 8, 16, 32, 64, 128)
DRIVERS: Final = ("fuse", "kernel")
NAMES: Final = 3000
BANDWIDTH: Final = 100e6  # bytes/s at which layers are fetched; assumed: 1 Gbit/s less what is lost
LOOKUPS: Final = 20_000  # for each build and node; assumed: a large program's start, some times a day


def pack(root: str, place: Path, ks: Sequence[int], planners: Sequence[str]) -> None:
    """Plan and pack."""
    place.mkdir(parents=True, exist_ok=True)
    hollow = place / "hollow"
    if not hollow.exists():
        subprocess.run(["cp", "-a", "--attributes-only", "--one-file-system", root, hollow], check=True)
        subprocess.run(["cp", "-a", f"{root}/var/lib/dpkg/.", hollow / "var/lib/dpkg"], check=True)
    with opened(SourceSpec("dpkg", root), lambda reference: [], lambda: Search([])) as source:
        units = make_units(source.graph)
    weights = units.weights()
    for planner in planners:
        for k in ks:
            out = place / f"{planner}-{k}"
            if out.exists():
                continue
            made = make_plan(units, k, Prices(0)) if planner == "plan" else BASELINES[planner](units, weights, k)
            shown = describe(units, made, k, Prices(0), source_of(SourceSpec("dpkg", str(hollow))))
            plan = place / f"{planner}-{k}.json"
            plan.write_text(json.dumps(shown))
            subprocess.run([*LAYERFS, "pack", plan, "-o", out, "--level", "1"], check=True, stdout=subprocess.DEVNULL)


def measure(place: Path, rounds: int) -> list[dict[str, Any]]:
    """Mount each pack by each driver, as often as there are rounds."""
    packs = sorted(path.parent for path in place.glob("*/pack.json"))
    names = _names(place / "hollow")
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for number in range(rounds):
        order = [(one, driver) for one in packs for driver in DRIVERS]
        random.Random(number).shuffle(order)
        for one, driver in order:
            found.setdefault((one.name, driver), []).append(_once(one, driver, place / "mnt", names))
    rows = []
    for (name, driver), times in sorted(found.items()):
        planner, _, k = name.rpartition("-")
        layers = len(json.loads((place / name / "pack.json").read_text())["layers"])
        medians = {key: median(each[key] for each in times) for key in times[0]}
        spread = {f"{key}_worst": max(each[key] for each in times) for key in times[0]}
        about = {"planner": planner, "k": int(k), "layers": layers, "driver": driver, "rounds": rounds}
        rows.append(about | medians | spread)
    return rows


def _names(root: Path) -> list[str]:
    names = []
    for directory, _, files in os.walk(root):
        names += [os.path.relpath(os.path.join(directory, name), root) for name in files]
    return random.Random(1).sample(sorted(names), NAMES)


def _once(one: Path, driver: str, mnt: Path, names: Sequence[str]) -> dict[str, float]:
    mnt.mkdir(exist_ok=True)
    top = json.loads((one / "pack.json").read_text())["layers"][-1]["file"]
    subprocess.run(["sync"], check=True)
    DROP.write_text("3")
    start = time.perf_counter()
    subprocess.run([*LAYERFS, "mount", "-q", one / top, mnt, f"--driver={driver}"], check=True)
    try:
        os.listdir(mnt)
        mounted = time.perf_counter()
        for name in names:
            os.lstat(mnt / name)
        there = time.perf_counter()
        for name in names:
            os.path.lexists(f"{mnt}/{name}.absent")
        absent = time.perf_counter()
    finally:
        subprocess.run([*LAYERFS, "umount", mnt], check=True)
    count = len(names)
    return {
        "mount_ms": (mounted - start) * 1e3,
        "stat_us": (there - mounted) / count * 1e6,
        "absent_us": (absent - there) / count * 1e6,
    }


def prices(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what a layer more costs, by straight lines through all packs mounted by FUSE."""
    fuse = [row for row in rows if row["driver"] == "fuse"]
    mount, stat = (_slope([(row["layers"], row[key]) for row in fuse]) for key in ("mount_ms", "stat_us"))
    seconds = max(0.0, mount) / 1e3 + max(0.0, stat) / 1e6 * LOOKUPS
    return {
        "mount_ms_per_layer": round(mount, 4),
        "lookup_us_per_layer": round(stat, 4),
        "lookups": LOOKUPS,
        "bytes_per_second": BANDWIDTH,
        "layer_price": round(seconds * BANDWIDTH),
    }


def _slope(points: Sequence[tuple[float, float]]) -> float:
    middle = sum(x for x, _ in points) / len(points)
    return sum((x - middle) * y for x, y in points) / sum((x - middle) ** 2 for x, _ in points)


def curve(rows: Sequence[dict[str, Any]], planning: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw bytes sent for each build against the time of a lookup, a line for each planner, a point for each K."""
    from matplotlib import use

    use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), sharey=True)
    sent: dict[tuple[str, int], float] = {}
    for row in planning:
        one = row["planner"].partition(" (")[0], row["k"]  # of two runs with other rates the better one
        sent[one] = min(row["sent"] / 1e6, sent.get(one, inf))
    for axis, driver in zip(axes, DRIVERS, strict=True):
        for planner in dict.fromkeys(row["planner"] for row in rows):
            points = sorted(
                (row["k"], row["mount_ms"] + LOOKUPS * row["stat_us"] / 1e3, sent[planner, row["k"]])
                for row in rows
                if row["driver"] == driver and row["planner"] == planner and (planner, row["k"]) in sent
            )
            axis.plot([x for _, x, _ in points], [y for _, _, y in points], marker="o", label=planner)
            for k, x, y in points:
                axis.annotate(f"{k}", (x, y), textcoords="offset points", xytext=(4, 4), fontsize=8)
        axis.set_title(f"{driver}: points are K")
        axis.set_xlabel(f"mount and {LOOKUPS} cold lookups [ms]")
        axis.set_ylim(bottom=0)
        axis.legend()
    axes[0].set_ylabel("sent for each build [MB]")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main(words: list[str] | None = None) -> int:
    """Do one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    packing = parts.add_parser("pack")
    packing.add_argument("root")
    packing.add_argument("place", type=Path)
    packing.add_argument("--ks", type=lambda text: [int(word) for word in text.split(",")], default=list(KS))
    packing.add_argument("--planners", type=lambda text: text.split(","), default=["plan", "ostree"])
    measuring = parts.add_parser("measure")
    measuring.add_argument("place", type=Path)
    measuring.add_argument("--rounds", type=int, default=3)
    measuring.add_argument("--planning", type=Path)
    asked = parser.parse_args(words)
    if asked.part == "pack":
        pack(asked.root, asked.place, asked.ks, asked.planners)
        return 0
    rows = measure(asked.place, asked.rounds)
    (asked.place / "measured.json").write_text(json.dumps(rows, indent=1) + "\n")
    (asked.place / "prices.json").write_text(json.dumps(prices(rows), indent=1) + "\n")
    if asked.planning is not None:
        curve(rows, json.loads(asked.planning.read_text())["rows"], asked.place / "curve.svg")
    print(json.dumps(rows), json.dumps(prices(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
