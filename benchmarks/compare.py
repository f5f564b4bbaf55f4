"""What became slower between two results, beyond the noise.

The machine itself may have been faster or slower on the other day. Subjects that are not ours did not change, so the
median change of theirs for the same measure is taken for the machine's and divided out. A change of ours is then
flagged when it is above the threshold and above three times its noise (scaled median absolute deviations of both runs).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.records import Key, Results, read
from benchmarks.stats import spread

OURS = "layerfs"
MAD_TO_SIGMA = 1.4826  # for a normal distribution
SIGMAS = 3.0
LEAST = {"us": 0.3, "ms": 1.0, "MB": 1.0, "B": 50.0, "1": 4.0, "per mille": 0.2, "per second": 1.0}
"""Differences below these are nobody's business, whatever the ratio."""


@dataclass(frozen=True, slots=True)
class MeasureChange:
    """One measure of one of our subjects. `factor` above 1 is worse, drift of the machine divided out."""

    key: Key
    subject: str
    old: float
    new: float
    unit: str
    factor: float
    noise: float
    drift: float

    def slower(self, threshold: float) -> bool:
        """Say whether it got worse by more than the threshold and the noise."""
        return self.factor > 1 + max(threshold, self.noise) and abs(self.new - self.old) > LEAST.get(self.unit, 0.0)

    def faster(self, threshold: float) -> bool:
        """Say the same of the other direction."""
        return 1 / max(self.factor, 1e-9) > 1 + max(threshold, self.noise)


def main(old: Path, new: Path, threshold: float) -> int:
    """Print the comparison; return 1 if something of ours became slower."""
    changes = compare(Results.of(read(file(old))), Results.of(read(file(new))))
    slower = [change for change in changes if change.slower(threshold)]
    faster = [change for change in changes if change.faster(threshold)]
    for title, group in (("slower", slower), ("faster", faster)):
        for change in sorted(group, key=lambda one: -max(one.factor, 1 / max(one.factor, 1e-9))):
            print(f"{title}: {line(change)}")
    print(f"{len(changes)} measures compared: {len(slower)} slower, {len(faster)} faster beyond the noise")
    return 1 if slower else 0


def file(path: Path) -> Path:
    """Accept the directory of a run for its results file."""
    return path / "results.jsonl" if path.is_dir() else path


def line(change: MeasureChange) -> str:
    """Say one change in one line."""
    key = change.key
    return (
        f"{change.subject} {key.question} {key.case} {key.measure}: {change.old:.4g} -> {change.new:.4g}"
        f" {change.unit} (x{change.factor:.2f}, noise {change.noise:.0%}, machine x{change.drift:.2f})"
    )


def compare(old: Results, new: Results) -> list[MeasureChange]:
    """Return the change of every measure of our subjects that both results hold."""
    found = []
    for key, by_subject in new.values.items():
        machine = drift(old, new, key)
        for subject, values in by_subject.items():
            before = old.of_subject(key, subject)
            if subject.startswith(OURS) and before:
                found.append(change_of(key, subject, before, values, new, machine))
    return found


def change_of(
    key: Key, subject: str, before: Mapping[int, float], after: Mapping[int, float], new: Results, machine: float
) -> MeasureChange:
    """Compare two sets of samples of one measure."""
    was, now = spread(list(before.values())), spread(list(after.values()))
    noise = SIGMAS * MAD_TO_SIGMA * (relative(was.mad, was.median) ** 2 + relative(now.mad, now.median) ** 2) ** 0.5
    factor = relative(now.median, was.median) if was.median else (2.0 if now.median else 1.0)
    factor /= machine
    if new.better_more[key]:
        factor = 1 / factor if factor else float("inf")
    return MeasureChange(key, subject, was.median, now.median, new.units[key], factor, noise, machine)


def relative(part: float, whole: float) -> float:
    """Divide, taking nothing of nothing for nothing."""
    return part / whole if whole else 0.0


def drift(old: Results, new: Results, key: Key) -> float:
    """Return new/old of the subjects that are not ours: the machine's own change."""
    factors = []
    for subject, values in new.values[key].items():
        before = old.of_subject(key, subject)
        if subject.startswith(OURS) or not before:
            continue
        was, now = spread(list(before.values())).median, spread(list(values.values())).median
        if was > 0 and now > 0:
            factors.append(now / was)
    return statistics.median(factors) if factors else 1.0
