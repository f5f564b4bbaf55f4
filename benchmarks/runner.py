"""Rounds of samples, interleaved over the subjects; everything that happens becomes a record.

Rounds are outermost and subjects innermost: what drifts (the disk, other work on the host) hits all subjects alike, and
a ratio is always taken between samples of one round. The order of the subjects rotates, so that none is always first.
"""

from __future__ import annotations

import datetime
import itertools
import operator
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import caches, host, trees
from benchmarks.model import BenchError, BuiltTree, Case, Scale, Subject, Value
from benchmarks.mounted_site import MountedSite
from benchmarks.questions import text
from benchmarks.questions.question import Question
from benchmarks.records import Writer
from benchmarks.stats import histogram, quantiles
from benchmarks.subjects import QUICK_IMAGES, is_extra

PATIENCE = 5.0  # seconds that one sample waits for a quiet host
DISTURBED = 0.25  # CPUs busy with something else, above which a sample is taken again

Step = tuple[int, Question, Case, Subject]


@dataclass
class Plan:
    """What a run does.

    `budget` [s] ends it in good order: what there was no time for is recorded as skipped. `tries` above 1 waits for a
    quiet host and takes disturbed samples again. `names` shortens the name lists of the trees.
    """

    questions: Sequence[Question]
    subjects: Sequence[Subject]
    scale: Scale
    rounds: int
    cache: Path
    trees: Sequence[str] = ()
    layers: Sequence[int] = ()
    digests: bool = True
    budget: float | None = None
    tries: int = 1
    names: int | None = None
    arguments: str = ""

    def cases(self, question: Question) -> list[Case]:
        """Return the question's cases, narrowed by --tree and --layers."""
        scale = Scale.FULL if self.trees or self.layers else self.scale
        return [
            case
            for case in question.cases(scale)
            if (not self.trees or case.tree in self.trees) and (not self.layers or case.layers in self.layers)
        ]

    def times(self, question: Question) -> int:
        """Return how often a question is asked of each subject."""
        return max(1, round(self.rounds * question.rounds))

    def steps(self, subjects: Sequence[Subject]) -> Iterator[Step]:
        """Yield every sample to take, in order; --quick asks the first case of every subject before any second."""
        ranked: list[tuple[int, Step]] = []
        for index in range(self.rounds * 2):
            for question in self.questions:
                if index >= self.times(question):
                    continue
                turn = index % max(len(subjects), 1)
                cases = self.cases(question)
                for case, subject in itertools.product(cases, [*subjects[turn:], *subjects[:turn]]):
                    asked = self.asked(subject, cases, index)
                    if case in asked:
                        ranked.append((asked.index(case), (index, question, case, subject)))
        if self.scale is Scale.QUICK:
            ranked.sort(key=operator.itemgetter(0))
        yield from (step for _, step in ranked)

    def asked(self, subject: Subject, cases: Sequence[Case], index: int = 0) -> Sequence[Case]:
        """Return what a subject is asked: beyond the main ones, short of --full, the first setting on plain trees.

        Images are asked of all that take them; --quick asks them of two subjects, in the first round, and these
        nothing else: a pipeline takes seconds for each sample.
        """
        packed = [case for case in cases if case.images and subject.images]
        plain = [case for case in cases if not case.images]
        if self.scale is Scale.FULL or self.trees:
            return [*plain, *packed]
        if is_extra(subject) or subject.owner:
            plain = [case for case in plain[:1] if case.tree in ("own", "big")]
        if self.scale is Scale.QUICK:
            return plain if subject.name not in QUICK_IMAGES else [] if index else packed
        return [*plain, *packed]


@dataclass
class Run:
    """One run of a plan."""

    plan: Plan
    writer: Writer
    tell: Callable[[str, float], None]
    begun: float = field(default_factory=time.monotonic)
    taken: dict[tuple[str, str, str], float] = field(default_factory=dict)
    checked: set[tuple[str, int, str]] = field(default_factory=set)
    expected: dict[str, str] = field(default_factory=dict)
    hopeless: set[tuple[str, str, str]] = field(default_factory=set)
    samples: int = 0

    def run(self) -> None:
        """Take every sample; whatever fails is recorded and the run goes on."""
        self.introduce()
        present = [subject for subject in self.plan.subjects if subject.missing() is None]
        steps = list(self.plan.steps(present))
        try:
            self.build(steps)
            for done, (index, question, case, subject) in enumerate(steps):
                self.tell(f"round {index + 1}: {question.name} {case.key()} {subject.name}", done / len(steps))
                self.step(index, question, case, subject)
        finally:
            for subject in self.plan.subjects:
                subject.finish()
            seconds = time.monotonic() - self.begun
            self.writer.write("end", finished=now(), samples=self.samples, seconds=round(seconds, 1))

    def build(self, steps: Sequence[Step]) -> None:
        """Make the trees before the time of measuring begins; later runs find them in the cache."""
        wanted = dict.fromkeys((case.tree, case.layers, subject.owner) for _, _, case, subject in steps)
        for done, (tree, layers, owner) in enumerate(wanted):
            self.tell(f"making the tree {tree}/{layers}", 0.02 * done / len(wanted))
            try:
                trees.build(tree, layers, self.plan.cache, owner)
            except (BenchError, OSError, subprocess.SubprocessError):
                continue  # the sample that needs it says so
        self.begun = time.monotonic()

    def introduce(self) -> None:
        """Write what a reader needs to know before the first number."""
        plan = self.plan
        plan.cache.mkdir(parents=True, exist_ok=True)
        plan.cache.chmod(0o755)
        self.writer.write("run", schema=1, started=now(), scale=plan.scale.name.lower(), arguments=plan.arguments)
        self.writer.write("host", **host.facts(plan.cache))
        for question in plan.questions:
            self.writer.write("question", name=question.name, text=text(question))
        for subject in plan.subjects:
            missing = subject.missing()
            version = "" if missing else subject.version()
            self.writer.write("subject", name=subject.name, about=subject.about, version=version, missing=missing)

    def step(self, index: int, question: Question, case: Case, subject: Subject) -> None:
        """Take one sample, unless it makes no sense, failed before, or would end too late."""
        which = {"question": question.name, "case": case.key(), "subject": subject.name}
        key = (question.name, case.key(), subject.name)
        refusal = subject.refuses(case)
        if refusal or key in self.hopeless:
            if refusal and index == 0:
                self.writer.write("refused", **which, reason=refusal)
            return
        if self.late(key):
            if index == 0:
                self.writer.write("skipped", **which, reason="no time left")
            return
        begun = time.monotonic()
        try:
            self.sample(index, question, case, subject)
        except (BenchError, OSError, subprocess.SubprocessError) as error:
            self.hopeless.add(key)
            self.writer.write("failed", **which, round=index, error=str(error))
        self.taken[key] = time.monotonic() - begun

    def late(self, key: tuple[str, str, str]) -> bool:
        """Say whether the sample, as long as its predecessor, would end after the budget."""
        left = (self.plan.budget or float("inf")) - (time.monotonic() - self.begun)
        return left < self.taken.get(key, 1.0)

    def sample(self, index: int, question: Question, case: Case, subject: Subject) -> None:
        """Ask until the rest of the host was quiet meanwhile, at most `tries` times; record the quietest answer."""
        best: list[Value] = []
        for _ in range(self.plan.tries):
            if self.plan.tries > 1:
                caches.wait_quiet(PATIENCE)
            values, layers = self.attempt(question, case, subject)
            if not best or disturbance(values) < disturbance(best):
                best = values
            if disturbance(best) < DISTURBED or self.late(("", "", "")):
                break
        self.keep(index, question, case, subject, best)
        self.verify(case, subject, layers)

    def attempt(self, question: Question, case: Case, subject: Subject) -> tuple[list[Value], BuiltTree]:
        """Build or find the tree and ask the question in a fresh site."""
        layers = trees.build(case.tree, case.layers, self.plan.cache, subject.owner)
        layers = layers.brief(self.plan.names) if self.plan.names else layers
        site = MountedSite(subject, self.plan.cache / "run" / f"{os.getpid()}-{self.samples}", self.plan.cache)
        self.samples += 1
        site.make(subject.owner)
        try:
            subject.prepare(layers, site, case)
            return list(question.sample(site, layers, case)), layers
        finally:
            site.clear()

    def keep(self, index: int, question: Question, case: Case, subject: Subject, values: Sequence[Value]) -> None:
        """Record the values of one sample."""
        for value in values:
            extra: dict[str, Any] = {}
            if value.times:
                extra = {
                    "quantiles": quantiles(value.times),
                    "histogram": histogram(value.times),
                    "others": round(value.others, 2),
                }
            self.writer.write(
                "sample",
                question=question.name,
                case=case.key(),
                tree=case.tree,
                layers=case.layers,
                subject=subject.name,
                round=index,
                measure=value.measure,
                value=value.value,
                unit=value.unit,
                more_is_better=value.more_is_better,
                **extra,
            )

    def verify(self, case: Case, subject: Subject, layers: BuiltTree) -> None:
        """Once for each tree and subject (--quick: for one tree): does it show what the merged tree holds?"""
        key = (case.tree, case.layers, subject.name)
        enough = self.plan.scale is Scale.QUICK and any(subject.name == name for _, _, name in self.checked)
        if not self.plan.digests or enough or key in self.checked or self.late(("", "", "")):
            return
        self.checked.add(key)
        site = MountedSite(subject, self.plan.cache / "run" / f"{os.getpid()}-digest", self.plan.cache)
        site.make(subject.owner)
        try:
            subject.prepare(layers, site, Case(case.tree, case.layers))
            with site.mounted(layers):
                seen = site.run("digest", layers.present)
        finally:
            site.clear()
        want = f"{layers.flat} {subject.prefix}"
        if want not in self.expected:
            self.expected[want] = site.probe.run("digest", layers.flat, layers.present).digest
        self.writer.write(
            "digest",
            tree=case.tree,
            layers=case.layers,
            subject=subject.name,
            digest=seen.digest,
            same=seen.digest == self.expected[want],
            count=seen.count,
            bytes=seen.bytes,
        )


def disturbance(values: Sequence[Value]) -> float:
    """Return how busy the rest of the host was during the worst pass of a sample."""
    return max((value.others for value in values), default=0.0)


def now() -> str:
    """Return the time to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
