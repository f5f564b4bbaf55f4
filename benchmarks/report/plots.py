"""The plots, each as SVG and PNG: cost by layers, cost by concurrency, a heat map of ratios, latency distributions."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import targets
from benchmarks.model import BenchError
from benchmarks.records import Key, Results
from benchmarks.report.document import Figure
from benchmarks.stats import bucket_floor, ratio, spread

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

COLOURS = {
    "bind": "#9aa0a6",
    "kernel-overlay": "#1f77b4",
    "fuse-overlayfs-1.10": "#d62728",
    "fuse-overlayfs-2.0.0": "#ff7f0e",
    "layerfs-fuse": "#2ca02c",
    "layerfs-kernel": "#17becf",
    "squashfuse+fuse-overlayfs-1.10": "#8c564b",
    "squashfuse+fuse-overlayfs-2.0.0": "#e377c2",
    "loop-squashfs": "#9467bd",
    "btrfs": "#bcbd22",
}
SPARE = ("#7f7f7f", "#aec7e8", "#98df8a", "#c5b0d5", "#c49c94")
HEAT = (
    ("lookup", "stat.cold"),
    ("lookup", "stat.warm"),
    ("lookup", "absent.cold"),
    ("lookup", "absent.warm"),
    ("walk", "walk.cold"),
    ("walk", "walk.warm"),
    ("open", "open.cold"),
    ("open", "open.warm"),
    ("create", "create.cold"),
    ("copyup", "append.cold"),
    ("unlink", "unlink.cold"),
    ("rename", "rename.cold"),
    ("read", "sequential.cold"),
    ("read", "sequential.warm"),
    ("mount", "answered"),
    ("memory", "read"),
    ("memory", "read.pss"),
)
DISTRIBUTIONS = (("lookup", "stat.cold"), ("lookup", "absent.cold"), ("open", "open.cold"), ("copyup", "append.cold"))


def draw(results: Results, directory: Path) -> list[Figure]:
    """Draw what the results have data for, into `directory`."""
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise BenchError("plots need matplotlib: pip install layerfs[bench]") from error
    matplotlib.use("Agg")
    matplotlib.rcParams.update(
        {
            "svg.hashsalt": "layerfs",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "svg.fonttype": "none",
        }
    )
    directory.mkdir(parents=True, exist_ok=True)
    figures = []
    for make in (by_layers, by_concurrency, ratios, ratios_of_images, distributions):
        figure = make(results, directory)
        if figure:
            figures.append(figure)
    return figures


def canvas(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Canvas, list[Axes]]:
    """Return a figure and its axes in reading order."""
    from matplotlib.figure import Figure as New

    figure = New(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def save(figure: Canvas, directory: Path, name: str, caption: str) -> Figure:
    """Write both formats; the SVG carries no date, so that equal results give equal files."""
    figure.savefig(directory / f"{name}.svg", metadata={"Date": None})
    figure.savefig(directory / f"{name}.png", dpi=130)
    return Figure(name, caption)


def colour(results: Results, subject: str) -> str:
    """Return a subject's colour, the same in every plot; a rootless twin has its sibling's."""
    plain = subject.removesuffix("-rootless")
    if plain in COLOURS:
        return COLOURS[plain]
    others = [name for name in results.subjects() if name.removesuffix("-rootless") not in COLOURS]
    return SPARE[others.index(subject) % len(SPARE)]


def style(subject: str) -> str:
    """Draw rootless subjects dashed."""
    return "--" if subject.endswith("-rootless") else "-"


def by_layers(results: Results, directory: Path) -> Figure | None:
    """Draw what a cold stat and a cold absent name cost against the number of layers."""
    panels = [(tree, measure) for tree in ("own", "shared") for measure in ("stat.cold", "absent.cold")]
    lines = {panel: curves(results, "lookup", *panel) for panel in panels}
    if not any(len(points) > 1 for curve in lines.values() for points in curve.values()):
        return None
    figure, axes = canvas(10, 6.4, 2, 2)
    for axis, (tree, measure) in zip(axes, panels, strict=True):
        for subject, points in lines[tree, measure].items():
            layers = sorted(points)
            axis.plot(
                layers,
                [points[count] for count in layers],
                style(subject),
                marker="o",
                markersize=3.5,
                label=subject,
                color=colour(results, subject),
            )
        axis.set(xscale="log", yscale="log", title=f"{tree}: {measure}", xlabel="layers", ylabel="us")
        counts = sorted({count for points in lines[tree, measure].values() for count in points})
        axis.set_xticks(counts, [str(count) for count in counts], minor=False)
        axis.minorticks_off()
        whole_numbers(axis)
    legend(figure, axes)
    return save(
        figure,
        directory,
        "lookup-by-layers",
        "Cold lookup cost against the number of layers, us (both axes logarithmic)",
    )


def curves(results: Results, question: str, tree: str, measure: str) -> dict[str, dict[int, float]]:
    """Return subject -> layers -> median."""
    found: dict[str, dict[int, float]] = {}
    for key, by_subject in results.values.items():
        if (key.question, key.measure) == (question, measure) and re.fullmatch(f"{tree}/[0-9]+", key.case):
            for subject in results.subjects():
                if subject in by_subject:
                    median = spread(list(by_subject[subject].values())).median
                    found.setdefault(subject, {})[int(key.case.partition("/")[2])] = median
    return found


def whole_numbers(axis: Axes) -> None:
    """Show 10 and 100 rather than powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def legend(figure: Canvas, axes: Sequence[Axes]) -> None:
    """Put one legend below all panels."""
    known: dict[str, Artist] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        known.update(zip(labels, handles, strict=True))
    figure.legend(list(known.values()), list(known), loc="outside lower center", ncols=4, frameon=False)


def by_concurrency(results: Results, directory: Path) -> Figure | None:
    """Draw the time until the last of many mounts answers, and of the median one."""
    figure, axes = canvas(10, 4.2, 2)
    drawn = 0
    titles = {"all": "until the last answers", "each": "the median mount"}
    for axis, measure in zip(axes, titles, strict=True):
        for subject in results.subjects():
            points = {
                int(key.case.rpartition("=")[2]): spread(list(by[subject].values())).median
                for key, by in results.values.items()
                if key.question == "concurrency" and key.measure == measure and subject in by
            }
            counts = sorted(points)
            drawn += len(counts) > 1
            if counts:
                axis.plot(
                    counts,
                    [points[count] for count in counts],
                    style(subject),
                    marker="o",
                    markersize=3.5,
                    label=subject,
                    color=colour(results, subject),
                )
        axis.set(xscale="log", yscale="log", title=titles[measure], xlabel="mounts started at once", ylabel="ms")
        counts = sorted({int(key.case.rpartition("=")[2]) for key in results.values if key.question == "concurrency"})
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.minorticks_off()
        whole_numbers(axis)
    if not drawn:
        return None
    legend(figure, axes)
    return save(figure, directory, "mount-by-concurrency", "Mount cost against concurrency, 10 layers, ms")


def ratios(results: Results, directory: Path) -> Figure | None:
    """Draw every telling measure on directories as a ratio to Debian's fuse-overlayfs."""
    words = (
        "Time as a ratio to Debian's fuse-overlayfs, paired by round (below 1, green: faster than it; rates are turned"
        " round)"
    )
    return heat_map(results, directory, "ratios", targets.DEBIAN, words)


def ratios_of_images(results: Results, directory: Path) -> Figure | None:
    """Draw every telling measure on images as a ratio to the pipeline of today."""
    words = (
        "Images: time, or memory, as a ratio to fuse-overlayfs over a squashfuse_ll for each image, rootless, paired by"
        " round (below 1, green: better than it; rates are turned round)"
    )
    return heat_map(results, directory, "ratios-of-images", targets.PIPELINE, words)


def heat_map(results: Results, directory: Path, name: str, peer: str, caption: str) -> Figure | None:
    """Draw measures that are compared with `peer`, subjects across; green is better than it."""
    rows = [
        key
        for question, measure in HEAT
        for key in results.values
        if (key.question, key.measure) == (question, measure) and results.of_subject(key, peer)
    ]
    rows = [key for key in rows if targets.peer_of(key) == peer and ("=" not in key.case or "data=" in key.case)]
    subjects = [
        subject
        for subject in results.subjects()
        if subject != peer and any(results.of_subject(key, subject) for key in rows)
    ]
    if not subjects:
        return None
    table = [[factor(results, key, subject) for subject in subjects] for key in rows]
    figure, [axis] = canvas(3.6 + 1.05 * len(subjects), 3.2 + 0.27 * len(rows))
    shades = [[math.log2(value) if value else math.nan for value in line] for line in table]
    image = axis.imshow(shades, cmap="RdYlGn_r", vmin=-3, vmax=3, aspect="auto")
    axis.set_xticks(range(len(subjects)), subjects, rotation=35, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(rows)), [f"{key.case}  {key.question} {key.measure}" for key in rows])
    axis.grid(False)
    for y, line in enumerate(table):
        for x, value in enumerate(line):
            axis.text(x, y, f"{value:.2f}" if value else "", ha="center", va="center", fontsize=7.5, color="black")
    bar = figure.colorbar(image, ax=axis, shrink=0.6, ticks=[-3, -2, -1, 0, 1, 2, 3])
    bar.ax.set_yticklabels(["1/8", "1/4", "1/2", "1", "2", "4", "8"])
    return save(figure, directory, name, caption)


def factor(results: Results, key: Key, subject: str) -> float | None:
    """Return the paired ratio to the peer; rates turned round, so that below 1 is better."""
    ours, theirs = results.of_subject(key, subject), results.of_subject(key, targets.peer_of(key))
    found = ratio(theirs, ours) if results.better_more[key] else ratio(ours, theirs)
    return found.median if found and found.median > 0 else None


def distributions(results: Results, directory: Path) -> Figure | None:
    """Draw how the latencies of single operations are spread: the share that took at most so long."""
    figure, axes = canvas(10, 6.4, 2, 2)
    drawn = 0
    for axis, (question, measure) in zip(axes, DISTRIBUTIONS, strict=True):
        for subject in results.subjects():
            counts = pooled(results, question, "own/10", measure, subject)
            if not counts:
                continue
            drawn += 1
            places = sorted(counts)
            total, running, shares = sum(counts.values()), 0, []
            for place in places:
                running += counts[place]
                shares.append(100 * running / total)
            axis.plot(
                [bucket_floor(place + 1) / 1000 for place in places],
                shares,
                style(subject),
                label=subject,
                color=colour(results, subject),
                drawstyle="steps-post",
            )
        axis.set(xscale="log", title=f"own/10: {question} {measure}", xlabel="us", ylabel="% at most", ylim=(0, 101))
    if not drawn:
        return None
    legend(figure, axes)
    return save(figure, directory, "latency-distributions", "Latency of single operations, all rounds together")


def pooled(results: Results, question: str, case: str, measure: str, subject: str) -> Mapping[int, int]:
    """Add up the histograms of all rounds."""
    counts: dict[int, int] = {}
    for sample in results.kind("sample"):
        same = (sample["question"], sample["case"], sample["measure"], sample["subject"])
        if same == (question, case, measure, subject):
            for place, count in sample.get("histogram", {}).items():
                counts[int(place)] = counts.get(int(place), 0) + count
    return counts
