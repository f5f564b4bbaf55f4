"""`python -m benchmarks [run|rows|compare|report|peers|list]`; `layerfs bench` is the same."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from benchmarks import options, questions, rows, subjects
from benchmarks.model import BenchError
from benchmarks.mounted_site import ROOT
from benchmarks.records import Results, Writer
from benchmarks.runner import Plan, Run

ISOLATED = "LAYERFS_BENCH_ISOLATED"
AGAIN = "import sys; sys.path[0] = sys.argv[1]; from benchmarks.__main__ import main; sys.exit(main(sys.argv[2:]))"
LEAST_NICE = -20
EVERY = 10.0  # seconds between two lines of progress
VERBS = ("run", "rows", "compare", "report", "peers", "list")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; return its exit status (compare: 1 when something became slower)."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or (words[0] not in VERBS and words[0] not in ("-h", "--help")):
        words.insert(0, "run")
    args = options.parser().parse_args(words)
    args.words = words
    try:
        return {"run": run, "rows": beside, "compare": compare, "report": report, "peers": peers, "list": listing}[
            args.verb
        ](args)
    except BenchError as error:
        print(f"layerfs bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def run(args: argparse.Namespace) -> int:
    """Measure, then write the report."""
    isolate(args.words)
    return tell_report(measure(options.plan(args), args.out), args.out)


def beside(args: argparse.Namespace) -> int:
    """Measure ourselves beside the strongest peers; print what was asked for and what was found."""
    if args.of is not None:
        from benchmarks import records
        from benchmarks.compare import file

        print(rows.table(Results.of(records.read(file(args.of)))))
        return 0
    rows.groups(args.groups)  # a wrong name is told before anything is done
    isolate(args.words)
    print(rows.table(measure(rows.plan(args), args.out)))
    return 0


def measure(plan: Plan, out: Path) -> Results:
    """Follow a plan; what was measured when that is interrupted counts, too."""
    prefer()
    out.mkdir(parents=True, exist_ok=True)
    writer = Writer(out / "results.jsonl")
    try:
        with progress() as tell:
            Run(plan, writer, tell).run()
    except KeyboardInterrupt:
        print("layerfs bench: interrupted; the report has what was measured until then", file=sys.stderr)
    finally:
        writer.close()
    return Results.of(writer.records)


def isolate(words: Sequence[str]) -> None:
    """As root, go on in a mount namespace of our own.

    Nobody who makes a namespace meanwhile can then hold copies of our mounts (their servers would outlive them), and
    nothing stays mounted if we are killed.
    """
    if os.geteuid() == 0 and os.environ.get(ISOLATED) != "1" and shutil.which("unshare"):
        os.environ[ISOLATED] = "1"
        os.execvp("unshare", ["unshare", "-m", sys.executable, "-c", AGAIN, str(Path(__file__).parents[1]), *words])


def prefer() -> None:
    """Run the loops and all subjects before other work of the host; where that is not allowed, beside it.

    Not by a real-time class: that one never wakes a server on the client's own CPU, which the fair class often does. A
    walk through fuse-overlayfs on squashfuse took 93 us for each entry, and under SCHED_RR 364.
    """
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, LEAST_NICE)


def tell_report(results: Results, out: Path) -> int:
    """Write the report; show what a person wants to know first, what was left out, and where the rest is."""
    from benchmarks import report as reports

    written = reports.write(results, out)
    print(reports.summary(results))
    print(f"\nThe report: {', '.join(map(str, written))}")
    return 0


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str, float], None]]:
    """Show a bar on a terminal; elsewhere say now and then, in a line, how far it is."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines()
        return
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)


class Lines:
    """Progress for a pipe or a log: the first step, and then one line in EVERY seconds."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.due = self.begun

    def __call__(self, what: str, share: float) -> None:
        """Print how far it is, if a line is due."""
        if (now := time.monotonic()) >= self.due:
            print(f"layerfs bench: {now - self.begun:.0f} s, {share:.0%}: {what}", file=sys.stderr, flush=True)
            self.due = now + EVERY


def compare(args: argparse.Namespace) -> int:
    """Compare two results."""
    from benchmarks import compare as comparing

    return comparing.main(args.old, args.new, args.threshold)


def report(args: argparse.Namespace) -> int:
    """Make the report again."""
    from benchmarks import records

    sources = [path / "results.jsonl" if path.is_dir() else path for path in args.results]
    joined = records.merge([records.read(source) for source in sources])
    out = args.out or sources[0].parent
    out.mkdir(parents=True, exist_ok=True)
    if len(sources) > 1:
        records.save(joined, out / "results.jsonl")
    return tell_report(Results.of(joined), out)


def peers(args: argparse.Namespace) -> int:
    """Install peers."""
    from benchmarks import peers as installing

    return installing.main()


def listing(args: argparse.Namespace) -> int:
    """Show what could be asked and measured here."""
    for question in questions.all_questions():
        print(f"question {question.name:14} {questions.text(question).splitlines()[0]}")
    for subject in subjects.all_subjects(ROOT):
        missing = subject.missing()
        print(f"subject  {subject.name:34} {'missing: ' + missing if missing else subject.version()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
