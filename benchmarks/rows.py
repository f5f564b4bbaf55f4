"""`python -m benchmarks rows`: what FUSE mounts cost beside their strongest peers, in one run.

One line for each operation: the medians of all subjects, and ours as a share of another's (the median over the rounds
in which both were measured), with the bound that is asked for. Rates are turned round: less is better. The groups of
operations are in `requirements`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import questions, subjects
from benchmarks.model import BenchError, Case, Scale, Subject
from benchmarks.mounted_site import ROOT
from benchmarks.questions.question import Question
from benchmarks.records import Key, Results
from benchmarks.requirements import DEFAULT, GROUPS, PACKED, PEER, Bound, Group, Requirement
from benchmarks.runner import Plan, Step
from benchmarks.stats import ratio, spread
from benchmarks.targets import DEBIAN, KERNEL, OURS

BUDGET = 660.0  # seconds, of the default group
NAMES = 2000  # of 10,000
ROUNDS = 5
TWIN = "-rootless"
COLUMNS = {KERNEL: "kernel", DEBIAN: "fo 1.10", PEER: "fo 2", PACKED: "sqfuse", OURS: "layerfs"}
TITLE, VALUE, SHARE, COUNT = 28, 9, 17, 8  # widths


@dataclass
class RowsPlan(Plan):
    """A plan of nothing but the rows of some groups; every question is asked in every round."""

    groups: Sequence[Group] = ()
    twin: str = ""

    def times(self, question: Question) -> int:
        """Return how often a question is asked."""
        return self.rounds

    def cases(self, question: Question) -> list[Case]:
        """Return the cases that the rows need."""
        wanted = {key.case for group in self.groups for key in keys(group) if key.question == question.name}
        return [case for case in question.cases(Scale.FULL) if case.key() in wanted]

    def steps(self, subjects: Sequence[Subject]) -> Iterator[Step]:
        """Yield the samples that any group wants."""
        wanted = {
            (key.question, key.case, subject + self.twin)
            for group in self.groups
            for key in keys(group)
            for subject in group.subjects
        }
        for step in super().steps(subjects):
            _, question, case, subject = step
            if (question.name, case.key(), subject.name) in wanted:
                yield step


def keys(group: Group) -> Iterator[Key]:
    """Yield all that a group measures."""
    for row in group.rows:
        yield from row.keys()


def groups(value: str) -> list[Group]:
    """Return the groups of a list; `all` is every group."""
    known = {group.name: group for group in GROUPS}
    names = list(known) if value == "all" else [word for word in value.split(",") if word]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise BenchError(f"no group is called {', '.join(unknown) or repr(value)}; there are: {', '.join(known)}, all")
    return [known[name] for name in names]


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Add what `rows` takes."""
    names = ", ".join(group.name for group in GROUPS)
    verb.add_argument("--groups", default=DEFAULT, metavar="G,G", help=f"of {names}; or all ({DEFAULT})")
    verb.add_argument("--rootless", action="store_true", help="measure everybody without root, in a user namespace")
    verb.add_argument("--rounds", type=int, default=ROUNDS, help=f"samples of each kind ({ROUNDS})")
    verb.add_argument("--names", type=int, default=NAMES, help=f"of 10,000 ({NAMES})")
    verb.add_argument(
        "--budget", type=float, metavar="SECONDS", help=f"end in good order after this time ({DEFAULT}: {BUDGET:.0f})"
    )
    verb.add_argument("--out", type=Path, default=Path("bench-out"), help="directory for the results")
    verb.add_argument("--cache", type=Path, default=ROOT, help=f"where trees are kept (default {ROOT})")
    verb.add_argument("--of", type=Path, metavar="RESULTS", help="measure nothing, and print these results")


def plan(args: argparse.Namespace) -> RowsPlan:
    """Return what is to be measured; a peer that was not built (`make peers`) is left out."""
    asked = groups(args.groups)
    twin = TWIN if args.rootless else ""
    known = subjects.all_subjects(args.cache, [])
    here = {subject.name for subject in known}
    named = dict.fromkeys(subject + twin for group in asked for subject in group.subjects)
    wanted = dict.fromkeys(key.question for group in asked for key in keys(group))
    return RowsPlan(
        questions=questions.chosen(list(wanted), Scale.FULL),
        subjects=subjects.chosen(known, [name for name in named if name in here], quick=False),
        scale=Scale.FULL,
        rounds=args.rounds,
        cache=args.cache,
        digests=False,
        budget=args.budget or (BUDGET if args.groups == DEFAULT else None),
        names=args.names,
        arguments=" ".join(["rows", "--groups", args.groups, *(["--rootless"] if twin else [])]),
        groups=asked,
        twin=twin,
    )


def table(results: Results) -> str:
    """Return the rows that were measured, group by group, and what could not be."""
    lines = [line for twin in ("", TWIN) for group in GROUPS for line in _group(results, group, twin)]
    lines.append("The bound is in brackets, ! where it is missed.")
    peers = {PEER, PEER + TWIN, PACKED, PACKED + TWIN}
    if not peers & set(results.subjects()):
        lines.append(f"{PEER} was not measured: `make peers` builds it.")
    return "\n".join([*lines, *_left_out(results)])


def _group(results: Results, group: Group, twin: str) -> Iterator[str]:
    """Yield a headline, the rows and the units of one group; nothing if none of it was measured."""
    labels = group.labels()
    rows = [row for row in group.rows if results.of_subject(row.key, OURS + twin)]
    if not rows:
        return
    columns = "".join(f"{COLUMNS[subject]:>{VALUE}}" for subject in group.subjects)
    shares = "".join(f"{label:>{SHARE}}" for label in labels)
    yield f"{group.name + twin:{TITLE}}{columns}{shares}{'rounds':>{COUNT}}"
    for row in rows:
        each = [results.of_subject(row.key, subject + twin) for subject in group.subjects]
        medians = "".join(f"{spread(list(one.values())).median:{VALUE}.3g}" if one else f"{'':{VALUE}}" for one in each)
        told = {bound.label: _share(results, row, bound, twin) for bound in row.bounds}
        found = "".join(told.get(label, f"{'':{SHARE}}") for label in labels)
        yield f"{row.title:{TITLE}}{medians}{found}{len(results.of_subject(row.key, OURS + twin)):{COUNT}}"
    yield f"{group.note}.\n"


def _share(results: Results, row: Requirement, bound: Bound, twin: str) -> str:
    """Return what is bounded, its bound, and whether that is missed."""
    share = _bounded(results, row, bound, twin)
    if share is None:
        return f"{'':{SHARE}}"
    most = f"{bound.most:g}" if bound.absolute else f"{bound.most:.2f}"
    held = bound.most and results.one("host").get("cpus", bound.cpus) >= bound.cpus
    asked = f" ({most}){'!' if share > bound.most else ' '}" if held else ""
    shown = f"{share:.3g}" if bound.absolute else f"{share:.2f}"
    return f"{shown:>{SHARE - 8}}{asked:8}"


def _bounded(results: Results, row: Requirement, bound: Bound, twin: str) -> float | None:
    """Return our own value, or our share of the fastest other's; None if either was not measured."""
    ours = results.of_subject(row.key, OURS + twin)
    if bound.absolute:
        return spread(list(ours.values())).median
    more = results.better_more.get(row.key, False)
    key, others = bound.key or row.key, bound.of or (OURS,)
    found = ratio(ours, fastest([results.of_subject(key, other + twin) for other in others], more))
    if found is None:
        return None
    return 1 / found.median if more and found.median else found.median


def fastest(each: Sequence[Mapping[int, float]], more: bool) -> Mapping[int, float]:
    """Return the best value of every round; `more` says that it is the largest."""
    best: dict[int, float] = {}
    for values in each:
        for index, value in values.items():
            best[index] = (max if more else min)(best.get(index, value), value)
    return best


def _left_out(results: Results) -> Iterator[str]:
    """Yield what could not be measured, and why."""
    for kind in ("refused", "failed", "skipped"):
        why: dict[tuple[str, str], list[str]] = {}
        for one in results.kind(kind):
            why.setdefault((one["question"], one.get("reason") or one.get("error") or ""), []).append(one["subject"])
        for (question, reason), names in why.items():
            yield f"{question} {kind}: {', '.join(dict.fromkeys(names))}: {reason}"
