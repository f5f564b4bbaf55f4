"""Passes of a timing loop over one mount, cold then warm: the shape that most questions share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks import caches
from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite

PACKED = (("own.sqfs", 10), ("shared.sqfs", 10))
TARGETED = (("own", 10), ("shared", 40), ("own", 1), ("own", 40))


def standard_cases(scale: Scale, writes: bool = False) -> list[Case]:
    """Return the trees and layer counts of the project's targets; in a hurry only the first."""
    wanted = TARGETED[:1] if scale is Scale.QUICK else TARGETED
    return [Case(tree, layers, writes=writes) for tree, layers in wanted]


def tall_cases(scale: Scale) -> list[Case]:
    """Return the stack of very many layers, which only --full asks about."""
    return [Case("own", 128)] if scale is Scale.FULL else []


def written_cases(tree: str, scale: Scale) -> list[Case]:
    """Return the layer counts below programs that write: what is above the first is for --full."""
    counts = {Scale.QUICK: (), Scale.NORMAL: (10,), Scale.FULL: (10, 40)}
    return [Case(tree, count, writes=True) for count in counts[scale]]


def packed_cases(scale: Scale) -> list[Case]:
    """Return the trees of images; in a hurry only the first.

    A FUSE server's own cache outlives the dropping of the kernel's. Cold samples have a fresh mount, whose servers have
    answered one listing of the root and nothing else.
    """
    return [Case(tree, layers) for tree, layers in (PACKED[:1] if scale is Scale.QUICK else PACKED)]


def one_pass(site: MountedSite, op: str, names: Path, measure: str) -> Iterator[Value]:
    """Run the loop once: time for each operation, and what the servers' CPUs did for it."""
    before = caches.cpu_time(site.pids)
    done = site.run(op, names)
    yield Value(measure, done.us_each, times=done.times, others=done.others(caches.cpu_time(site.pids) - before))
    if site.pids:
        yield Value(f"{measure}.server-cpu", (caches.cpu_time(site.pids) - before) / max(done.count, 1) / 1000)


def cold_warm(site: MountedSite, layers: BuiltTree, op: str, names: Path, again: bool = False) -> Iterator[Value]:
    """Yield op.cold of a fresh mount, op.warm right after it, and op.again: caches dropped under the used mount."""
    with site.mounted(layers):
        state = site.cold()
        yield from one_pass(site, op, names, f"{op}.{state}")
        yield from one_pass(site, op, names, f"{op}.warm")
        if again and site.cold() == "cold":
            yield from one_pass(site, op, names, f"{op}.again")


def changed(site: MountedSite, layers: BuiltTree, op: str, names: Path) -> Iterator[Value]:
    """Yield op.cold of an operation that can be done only once to each name."""
    with site.mounted(layers):
        state = site.cold()
        yield from one_pass(site, op, names, f"{op}.{state}")
