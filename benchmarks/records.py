"""JSON lines: what a run writes, one object a line, and the check that it is what the schema says.

Every record has `kind`. Kinds and their fields (all required unless marked ?):

    run       schema (1), started (ISO 8601), scale, arguments, title?
    host      kernel, cpus, cpu_model, memory_mb, filesystem, mount_options, python, cc, root, caches_droppable, load,
              loop_ns (what the probe's loop itself costs for each operation)
    subject   name, about, version, missing (null, or why it could not be measured)
    question  name, text
    sample    question, case, tree, layers, subject, round, measure, value, unit, more_is_better,
              quantiles? ({p50, p90, p99, max} in us), histogram? ({bucket: count}), others? (CPUs that were busy
              with something else meanwhile)
    digest    tree, layers, subject, digest, same (as the merged tree made without layers), count, bytes
    refused   question, case, subject, reason         the case makes no sense for the subject
    failed    question, case, subject, round, error   a sample could not be taken
    skipped   question, case, subject, reason         there was no time
    end       finished (ISO 8601), samples, seconds

A latency bucket's number b stands for [2**(b/4), 2**((b+1)/4)) ns. `case` is the identity of a setting, as `own/10`;
`round` pairs samples: those of one round were taken within seconds to minutes of each other.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from benchmarks.model import BenchError

SCHEMA = 1
Record = dict[str, Any]

STR, NUMBER, MAP = (str,), (int, float), (dict,)
FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "run": {"schema": (int,), "started": STR, "scale": STR, "arguments": STR, "title?": STR},
    "host": {
        "kernel": STR,
        "cpus": (int,),
        "cpu_model": STR,
        "memory_mb": (int,),
        "filesystem": STR,
        "mount_options": STR,
        "python": STR,
        "cc": STR,
        "root": (bool,),
        "caches_droppable": (bool,),
        "load": NUMBER,
        "loop_ns": NUMBER,
    },
    "subject": {"name": STR, "about": STR, "version": STR, "missing": (str, type(None))},
    "question": {"name": STR, "text": STR},
    "sample": {
        "question": STR,
        "case": STR,
        "tree": STR,
        "layers": (int,),
        "subject": STR,
        "round": (int,),
        "measure": STR,
        "value": NUMBER,
        "unit": STR,
        "more_is_better": (bool,),
        "quantiles?": MAP,
        "histogram?": MAP,
        "others?": NUMBER,
    },
    "digest": {
        "tree": STR,
        "layers": (int,),
        "subject": STR,
        "digest": STR,
        "same": (bool,),
        "count": (int,),
        "bytes": (int,),
    },
    "refused": {"question": STR, "case": STR, "subject": STR, "reason": STR},
    "failed": {"question": STR, "case": STR, "subject": STR, "round": (int,), "error": STR},
    "skipped": {"question": STR, "case": STR, "subject": STR, "reason": STR},
    "end": {"finished": STR, "samples": (int,), "seconds": NUMBER},
}


def check(record: Record) -> None:
    """Raise BenchError if a record is not what the schema says."""
    kind = record.get("kind")
    if kind not in FIELDS:
        raise BenchError(f"unknown kind of record: {kind!r}")
    fields = {name.rstrip("?"): types for name, types in FIELDS[kind].items()}
    for name in FIELDS[kind]:
        if not name.endswith("?") and name not in record:
            raise BenchError(f"a {kind} record lacks {name!r}")
    for name, value in record.items():
        if name == "kind":
            continue
        if name not in fields:
            raise BenchError(f"a {kind} record has an unknown field {name!r}")
        if not isinstance(value, fields[name]):
            raise BenchError(f"{name!r} of a {kind} record is {value!r}")


class Writer:
    """Appends checked records to a file and keeps them, so that the report needs no second reading."""

    def __init__(self, path: Path | None) -> None:
        self.records: list[Record] = []
        self.file: TextIO | None = path.open("w") if path else None

    def write(self, kind: str, **fields: Any) -> None:
        """Check, keep and write one record; it is on disk when this returns."""
        record = {"kind": kind, **fields}
        check(record)
        self.records.append(record)
        if self.file:
            self.file.write(json.dumps(record) + "\n")
            self.file.flush()

    def close(self) -> None:
        """Close the file."""
        if self.file:
            self.file.close()


def read(path: Path) -> list[Record]:
    """Read and check a results file; the error names the line."""
    found = []
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise BenchError(f"cannot read {path}: {error.strerror}") from error
    for index, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            check(record)
        except (json.JSONDecodeError, BenchError) as error:
            raise BenchError(f"{path}, line {index}: {error}") from error
        found.append(record)
    return found


def save(records: Iterable[Record], path: Path) -> None:
    """Write records as they are."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def merge(runs: Sequence[list[Record]]) -> list[Record]:
    """Join the records of several runs of one host; rounds get their own numbers, so that pairs stay within a run."""
    joined: list[Record] = []
    introduced: set[tuple[str, str]] = set()
    first = 0
    for records in runs:
        for record in records:
            kind, name = record["kind"], record.get("name", "")
            if kind in ("run", "host", "subject", "question") and (kind, name) in introduced:
                continue
            introduced.add((kind, name))
            joined.append({**record, "round": record["round"] + first} if "round" in record else record)
        first = 1 + max((record["round"] for record in joined if "round" in record), default=-1)
    return joined


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What is measured, whoever it is measured of."""

    question: str
    case: str
    measure: str


@dataclass
class Results:
    """Records arranged for reading: `values[key][subject][round]`."""

    records: list[Record]
    values: dict[Key, dict[str, dict[int, float]]] = field(default_factory=dict)
    units: dict[Key, str] = field(default_factory=dict)
    better_more: dict[Key, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[Record]) -> Results:
        """Arrange records."""
        results = cls(list(records))
        for sample in results.kind("sample"):
            key = Key(sample["question"], sample["case"], sample["measure"])
            results.values.setdefault(key, defaultdict(dict))[sample["subject"]][sample["round"]] = sample["value"]
            results.units[key] = sample["unit"]
            results.better_more[key] = sample["more_is_better"]
        return results

    def kind(self, kind: str) -> Iterator[Record]:
        """Yield the records of one kind."""
        return (record for record in self.records if record["kind"] == kind)

    def one(self, kind: str) -> Record:
        """Return the first record of a kind, or an empty one."""
        return next(self.kind(kind), {})

    def of_subject(self, key: Key, subject: str) -> Mapping[int, float]:
        """Return the values by round; empty if there are none."""
        return self.values.get(key, {}).get(subject, {})

    def subjects(self) -> list[str]:
        """Return the subjects that have samples, in the order in which they were registered."""
        seen = {sample["subject"] for sample in self.kind("sample")}
        return [subject["name"] for subject in self.kind("subject") if subject["name"] in seen]
