"""Results made by hand, for tests of everything that reads them."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.records import Record, Results
from benchmarks.stats import histogram, quantiles


def sample(
    subject: str, measure: str, values: Sequence[float], *,
    question: str = "lookup", case: str = "own/10", unit: str = "us",
) -> list[Record]:  # fmt: skip
    """One sample record for each round."""
    tree, _, layers = case.partition(" ")[0].partition("/")
    times = [int(value * 1000) for value in values]
    extra: dict[str, Any] = {"quantiles": quantiles(times), "histogram": histogram(times)} if unit == "us" else {}
    return [
        {"kind": "sample", "question": question, "case": case, "tree": tree, "layers": int(layers), "subject": subject,
         "round": index, "measure": measure, "value": value, "unit": unit, "more_is_better": unit == "MB/s", **extra}
        for index, value in enumerate(values)
    ]  # fmt: skip


def head(*subjects: str) -> list[Record]:
    """The records before the first sample."""
    host = {"kernel": "Linux 6", "cpus": 2, "cpu_model": "x", "memory_mb": 100, "filesystem": "ext4",
            "mount_options": "rw", "python": "3.11", "cc": "cc", "root": True, "caches_droppable": True, "load": 0.5,
            "loop_ns": 50.0}  # fmt: skip
    return [
        {"kind": "run", "schema": 1, "started": "2026-01-01T00:00:00+00:00", "scale": "quick", "arguments": ""},
        {"kind": "host", **host},
        {"kind": "question", "name": "lookup", "text": "What does a lookup cost?\n\nCold and warm."},
        {"kind": "question", "name": "concurrency", "text": "How long do many mounts take?"},
        *({"kind": "subject", "name": name, "about": f"the {name}", "version": "1", "missing": None}
          for name in subjects),
    ]  # fmt: skip


def results(values: Mapping[str, Sequence[float]], measure: str = "stat.cold", **rest: str) -> Results:
    """Results of one measure of several subjects."""
    records = head(*values)
    for subject, numbers in values.items():
        records += sample(subject, measure, numbers, **rest)
    return Results.of(records)
