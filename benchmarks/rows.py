"""`python -m benchmarks rows`: what FUSE mounts of directories cost beside their strongest peers, in one run.

One line for each operation: the medians of all four, and ours as a share of fuse-overlayfs 2's and of the kernel's (of
rounds in which both were measured), with the bounds that are asked for. Rates are turned round: less is better.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import questions, subjects
from benchmarks.model import Case, Scale
from benchmarks.mounted_site import ROOT
from benchmarks.questions.question import Question
from benchmarks.records import Key, Results
from benchmarks.runner import Plan
from benchmarks.stats import ratio, spread
from benchmarks.targets import DEBIAN, KERNEL, OURS

PEER = "fuse-overlayfs-2.0.0"
SUBJECTS = (KERNEL, DEBIAN, PEER, OURS)
BUDGET = 660.0  # seconds
NAMES = 2000  # of 10,000
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Requirement:
    """An operation, and at most which share of the peer's and of the kernel's time it may take; 0: not asked."""

    title: str
    key: Key
    peer: float = 0.0
    kernel: float = 0.0


_OWN, _SHARED, _BIG = "own/10", "shared/40", "big/10"
ROWS = (
    Requirement("warm open+read+close", Key("open", _OWN, "open.warm"), 0.15, 0.9),
    Requirement("warm stat", Key("lookup", _OWN, "stat.warm"), 1.0, 1.0),
    Requirement("warm absent name", Key("lookup", _OWN, "absent.warm"), 0.1, 1.0),
    Requirement("warm walk", Key("walk", _OWN, "walk.warm"), 0.5, 1.2),
    Requirement("cold stat", Key("lookup", _OWN, "stat.cold"), 0.65),
    Requirement("cold absent name", Key("lookup", _OWN, "absent.cold"), 0.65),
    Requirement("cold walk", Key("walk", _OWN, "walk.cold"), 0.85),
    Requirement("cold open+read+close", Key("open", _OWN, "open.cold"), 0.95),
    Requirement("256 MiB read, cold", Key("read", _BIG, "sequential.cold"), 1 / 0.9, 1 / 0.6),
    Requirement("256 MiB read, warm", Key("read", _BIG, "sequential.warm"), 1 / 0.9, 1 / 0.6),
    Requirement("create 4 KiB", Key("create", _OWN, "create.cold"), 0.8),
    Requirement("unlink lower file", Key("unlink", _OWN, "unlink.cold"), 0.8),
    Requirement("rename lower file", Key("rename", _OWN, "rename.cold"), 0.8),
    Requirement("copy-up 4 KiB", Key("copyup", _OWN, "append.cold"), 1.0),
    Requirement("40 layers: cold stat", Key("lookup", _SHARED, "stat.cold"), 0.65, 0.95),
    Requirement("40 layers: cold absent", Key("lookup", _SHARED, "absent.cold"), 0.65, 0.2),
    Requirement("40 layers: cold walk", Key("walk", _SHARED, "walk.cold"), 0.95, 0.7),
)


class RowsPlan(Plan):
    """A plan of nothing but the rows."""

    def cases(self, question: Question) -> list[Case]:
        """Return the cases that the rows need."""
        wanted = {row.key.case for row in ROWS if row.key.question == question.name}
        return [case for case in question.cases(Scale.NORMAL) if case.key() in wanted]


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Add what `rows` takes."""
    verb.add_argument("--rounds", type=int, default=ROUNDS, help=f"samples of each kind ({ROUNDS})")
    verb.add_argument("--names", type=int, default=NAMES, help=f"of 10,000 ({NAMES})")
    verb.add_argument(
        "--budget", type=float, default=BUDGET, metavar="SECONDS", help="end in good order after this time"
    )
    verb.add_argument("--out", type=Path, default=Path("bench-out"), help="directory for the results")
    verb.add_argument("--cache", type=Path, default=ROOT, help=f"where trees are kept (default {ROOT})")
    verb.add_argument("--of", type=Path, metavar="RESULTS", help="measure nothing, and print these results")


def plan(args: argparse.Namespace) -> Plan:
    """Return what is to be measured; a peer that was not built (`make peers`) is left out."""
    known = subjects.all_subjects(args.cache, [])
    here = {subject.name for subject in known}
    asked = list(dict.fromkeys(row.key.question for row in ROWS))
    return RowsPlan(
        questions=questions.chosen(asked, Scale.NORMAL),
        subjects=subjects.chosen(known, [name for name in SUBJECTS if name in here], quick=False),
        scale=Scale.FULL,
        rounds=args.rounds,
        cache=args.cache,
        digests=False,
        budget=args.budget,
        names=args.names,
        arguments="rows",
    )


def table(results: Results) -> str:
    """Return the rows that were measured."""
    lines = list(_lines(results))
    head = f"{'':24}{'kernel':>9}{'fo 1.10':>9}{'fo 2':>9}{'layerfs':>9}{'of fo 2':>17}{'of kernel':>17}{'rounds':>8}"
    return "\n".join(
        [head, *lines, "us for one operation, MB/s of a read; the bound is in brackets, ! where it is missed."]
        + ([] if PEER in results.subjects() else [f"{PEER} was not measured: `make peers` builds it."])
    )


def _lines(results: Results) -> Iterator[str]:
    for row in ROWS:
        ours = results.of_subject(row.key, OURS)
        if not ours:
            continue
        each = [results.of_subject(row.key, subject) for subject in SUBJECTS]
        medians = "".join(f"{spread(list(one.values())).median:9.3g}" if one else f"{'':9}" for one in each)
        shares = _share(results, row, PEER, row.peer) + _share(results, row, KERNEL, row.kernel)
        yield f"{row.title:24}{medians}{shares}{len(ours):8}"


def _share(results: Results, row: Requirement, subject: str, bound: float) -> str:
    """Return our share of a subject's time, its bound, and whether that is missed."""
    found = ratio(results.of_subject(row.key, OURS), results.of_subject(row.key, subject))
    if found is None:
        return f"{'':17}"
    share = 1 / found.median if results.better_more.get(row.key) and found.median else found.median
    asked = f" ({bound:.2f}){'!' if share > bound else ' '}" if bound else f"{'':8}"
    return f"{share:9.2f}{asked}"
