"""The project's targets, of directories and of images, each with what was measured and whether it is met."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.model import IMAGES
from benchmarks.records import Key, Results
from benchmarks.stats import Spread, ratio, spread

OURS = "layerfs-fuse"
DEBIAN = "fuse-overlayfs-1.10"
KERNEL = "kernel-overlay"
TWIN = "layerfs-fuse-rootless"
PIPELINE = "squashfuse+fuse-overlayfs-1.10-rootless"
"""What people do today with images and without root: a squashfuse_ll for each image, fuse-overlayfs over them."""


def peer_of(key: Key) -> str:
    """Return whom tables and plots compare with, for a measure: what people use today for such layers."""
    return PIPELINE if f"{IMAGES}/" in key.case else DEBIAN


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on a ratio to another subject (or to the same one at another case), or on a value of our own.

    `subject` is whom it binds.
    """

    title: str
    key: Key
    bound: float
    against: str = ""
    against_case: str = ""
    subject: str = OURS


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of the table; `found` is None when a sample is missing.

    `best` is the ratio of the two best rounds, or our best round: what is left when other work of the host disturbs.
    """

    target: Goal
    found: Spread | None
    met: bool | None
    ours: float | None
    theirs: float | None
    unit: str
    best: float | None = None


def targets() -> list[Goal]:
    """Return all targets, those of directories first."""
    return [*of_directories(), *of_images()]


def of_images() -> list[Goal]:
    """Return what layerfs has to reach on ten images, without root, against the pipeline of today."""
    asked = [
        ("mount and first ls", "mount", "answered", 0.5),
        ("cold stat", "lookup", "stat.cold", 0.6),
        ("cold absent name", "lookup", "absent.cold", 0.6),
        ("cold tree walk", "walk", "walk.cold", 0.6),
        ("cold open+read+close", "open", "open.cold", 0.7),
    ]
    found = [
        (f"{title}, {tree}, 10 images", Key(question, f"{tree}.sqfs/10", measure), bound)
        for tree in ("own", "shared")
        for title, question, measure, bound in asked
    ]
    found.append(("mount and first ls, one name in the root, 10 images", Key("mount", "deep.sqfs/10", "answered"), 0.5))
    found += [
        (f"256 MiB read cold, {kind}, image", Key("read", f"mixed.sqfs/10 data={kind}", "sequential.cold"), 1.0)
        for kind in ("random", "text")
    ]
    found += [
        (f"{title} after walk and reads, {tree}, 10 images", Key("memory", f"{tree}.sqfs/10", measure), 1.0)
        for title, measure in (("resident", "read"), ("proportional", "read.pss"))
        for tree in ("mixed", "shared")
    ]
    return [Goal(title, key, bound, PIPELINE, subject=TWIN) for title, key, bound in found]


def of_directories() -> list[Goal]:
    """Return what layerfs has to reach on directories."""
    own, shared = "own/10", "shared/40"
    asked: list[tuple[str, str, str, float, str]] = [
        ("cold stat", "lookup", "stat.cold", 0.8, DEBIAN),
        ("cold absent name", "lookup", "absent.cold", 0.65, DEBIAN),
        ("cold tree walk", "walk", "walk.cold", 0.75, DEBIAN),
        ("create 4 KiB", "create", "create.cold", 1.0, DEBIAN),
        ("copy-up 4 KiB", "copyup", "append.cold", 1.0, DEBIAN),
        ("unlink lower file", "unlink", "unlink.cold", 1.0, DEBIAN),
        ("cold open+read+close", "open", "open.cold", 1.0, DEBIAN),
        ("warm open+read+close", "open", "open.warm", 1.1, DEBIAN),
        ("warm stat", "lookup", "stat.warm", 1.0, DEBIAN),
        ("warm absent name", "lookup", "absent.warm", 1.1, KERNEL),
    ]
    found = [
        Goal(f"{title}, own, 10 layers", Key(question, own, measure), bound, other)
        for title, question, measure, bound, other in asked
    ]
    found += [
        Goal(f"256 MiB read, {state}", Key("read", "big/10", f"sequential.{state}"), 1.0, DEBIAN)
        for state in ("cold", "warm")
    ]
    found.append(Goal("idle mount, per mille of a CPU", Key("idle", own, "cpu"), 0.0))
    found += [
        Goal(f"{title}, shared, 40 layers", Key(question, shared, measure), bound, KERNEL)
        for title, question, measure, bound in (
            ("cold stat", "lookup", "stat.cold", 1.25),
            ("cold absent name", "lookup", "absent.cold", 0.5),
            ("cold tree walk", "walk", "walk.cold", 0.8),
        )
    ]
    found += [
        Goal(f"{title}, own, 40 layers against 1", Key(question, "own/40", measure), 1.3, OURS, "own/1")
        for title, question, measure, _, _ in asked
    ]
    return [
        *found,
        Goal("resident after mount [MB]", Key("memory", own, "mounted"), 60.0),
        Goal("resident for each inode held [B]", Key("memory", own, "per-inode"), 600.0),
        Goal("of that, kept after FORGET [B]", Key("memory", own, "kept"), 100.0),
        Goal("mount command [ms]", Key("mount", own, "returned"), 60.0),
    ]


def judge(results: Results, target: Goal) -> Verdict:
    """Measure one target. A rate's ratio is turned round, so that below the bound is always good."""
    mine = results.of_subject(target.key, target.subject)
    unit = results.units.get(target.key, "")
    if not target.against:
        found = spread(list(mine.values())) if mine else None
        theirs = None
        best = min(mine.values()) if mine else None
    else:
        other_key = Key(target.key.question, target.against_case or target.key.case, target.key.measure)
        others = results.of_subject(other_key, target.against)
        flip = results.better_more.get(target.key, False)
        found = ratio(others, mine) if flip else ratio(mine, others)
        theirs = spread(list(others.values())).median if others else None
        best = of_best(mine, others, flip)
    median = spread(list(mine.values())).median if mine else None
    met = found.median <= target.bound if found else None
    return Verdict(target, found, met, median, theirs, unit, best)


def of_best(ours: Mapping[int, float], theirs: Mapping[int, float], flip: bool) -> float | None:
    """Return the ratio of the best rounds, below 1 being better for us."""
    if not ours or not theirs:
        return None
    if flip:
        return max(theirs.values()) / max(ours.values())
    return min(ours.values()) / min(theirs.values()) if min(theirs.values()) else None


def verdicts(results: Results) -> list[Verdict]:
    """Judge every target."""
    return [judge(results, target) for target in targets()]
