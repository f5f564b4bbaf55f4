"""The command line, parsed once into a Plan."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from benchmarks import questions, rows, subjects
from benchmarks.model import Scale
from benchmarks.mounted_site import ROOT
from benchmarks.runner import Plan
from benchmarks.subjects.named import HELP

ROUNDS = {Scale.QUICK: 3, Scale.NORMAL: 5, Scale.FULL: 7}
BRIEF = 2000  # of 10,000 names, in a --quick that is not narrowed further
QUICK_BUDGET = 100.0  # seconds; leaves time for the report within the two minutes


def words(value: str) -> list[str]:
    """Split a list at commas."""
    return [word for word in value.split(",") if word]


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(prog="layerfs bench", description=__doc__)
    verbs = top.add_subparsers(dest="verb")
    run = verbs.add_parser("run", help="measure (the default)")
    add_run_arguments(run)
    rows.add_arguments(verbs.add_parser("rows", help="FUSE on directories beside its strongest peers, in ten minutes"))
    compare = verbs.add_parser("compare", help="what became slower between two results, beyond the noise")
    compare.add_argument("old", type=Path)
    compare.add_argument("new", type=Path)
    compare.add_argument("--threshold", type=float, default=0.1, help="smallest change worth a flag (0.1 is 10 %%)")
    report = verbs.add_parser("report", help="make the report again, from the results of one run or of several")
    report.add_argument("results", type=Path, nargs="+")
    report.add_argument("--out", type=Path, help="directory (default: where the first results are)")
    verbs.add_parser("peers", help="install the strongest peers into .peers/, where their toolchains are at hand")
    verbs.add_parser("list", help="show questions and subjects")
    return top


def add_run_arguments(run: argparse.ArgumentParser) -> None:
    """Add what `run` takes."""
    scale = run.add_mutually_exclusive_group()
    scale.add_argument("--quick", dest="scale", action="store_const", const=Scale.QUICK, help="within two minutes")
    scale.add_argument("--full", dest="scale", action="store_const", const=Scale.FULL, help="everything; hours")
    run.set_defaults(scale=Scale.NORMAL)
    run.add_argument("--only", type=words, default=[], metavar="Q,Q", help="ask only these questions")
    run.add_argument("--subjects", type=words, default=[], metavar="S,S", help="measure only these subjects")
    run.add_argument("--tree", type=words, default=[], metavar="T,T", help="only these trees (own, shared, real, ...)")
    run.add_argument("--layers", type=lambda value: [int(word) for word in words(value)], default=[], metavar="N,N")
    run.add_argument("--rounds", type=int, help="samples of each kind")
    run.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND", help=HELP)
    run.add_argument("--out", type=Path, default=Path("bench-out"), help="directory for results and report")
    run.add_argument("--cache", type=Path, default=ROOT, help=f"where trees are kept (default {ROOT})")
    run.add_argument("--no-digest", action="store_true", help="do not check that all subjects show the same tree")
    run.add_argument("--tries", type=int, help="wait for a quiet host, and take a disturbed sample again (1: do not)")
    run.add_argument("--names", type=int, help="shorten the lists of 10,000 names: less time, more spread")
    run.add_argument("--budget", type=float, metavar="SECONDS", help="end in good order after this time")


def plan(args: argparse.Namespace) -> Plan:
    """Turn parsed arguments into a plan."""
    asked = questions.chosen(args.only, args.scale)
    quick = args.scale is Scale.QUICK
    known = subjects.all_subjects(args.cache, args.peer)
    narrowed = bool(args.only or args.tree)
    return Plan(
        questions=asked,
        subjects=subjects.chosen(known, args.subjects, quick),
        scale=args.scale,
        rounds=args.rounds or ROUNDS[args.scale],
        cache=args.cache,
        trees=args.tree,
        layers=args.layers,
        digests=not (args.no_digest or (quick and narrowed)),
        names=args.names or (BRIEF if quick and not narrowed else None),
        tries=args.tries or (1 if quick else 3),
        budget=args.budget or (QUICK_BUDGET if quick else None),
        arguments=shlex.join(getattr(args, "words", [])),
    )
