"""JSON lines and their schema."""

from pathlib import Path

import pytest

from benchmarks import records
from benchmarks.model import BenchError
from benchmarks.records import Key, Results, Writer
from tests.benchmarks.samples import head, sample


def test_what_is_written_is_read_again(scratch: Path) -> None:
    writer = Writer(scratch / "results.jsonl")
    for record in [*head("a"), *sample("a", "stat.cold", [1.0, 2.0])]:
        writer.write(record.pop("kind"), **record)
    writer.close()
    assert records.read(scratch / "results.jsonl") == writer.records


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ({"kind": "guess"}, "unknown kind"),
        ({"kind": "question", "name": "x"}, "lacks 'text'"),
        ({"kind": "question", "name": "x", "text": "y", "extra": 1}, "unknown field 'extra'"),
        ({"kind": "question", "name": 1, "text": "y"}, "'name' of a question record is 1"),
    ],
)
def test_a_record_that_is_not_in_the_schema_is_refused(record: records.Record, complaint: str) -> None:
    with pytest.raises(BenchError, match=complaint):
        records.check(record)


def test_the_error_of_a_bad_file_names_the_line(scratch: Path) -> None:
    path = scratch / "results.jsonl"
    path.write_text('{"kind": "question", "name": "x", "text": "y"}\nnot json\n')
    with pytest.raises(BenchError, match="line 2"):
        records.read(path)


def test_every_kind_of_record_is_described_in_the_schema_text() -> None:
    assert records.__doc__ is not None
    described = {line.split()[0] for line in records.__doc__.splitlines() if line.startswith("    ") and line[4] != " "}
    assert described == set(records.FIELDS)
    for kind, fields in records.FIELDS.items():
        for name in fields:
            assert name.rstrip("?") in records.__doc__, f"{kind}.{name}"


def test_results_are_found_by_key_subject_and_round() -> None:
    results = Results.of([*head("a", "b"), *sample("b", "stat.cold", [1.0, 2.0])])
    key = Key("lookup", "own/10", "stat.cold")
    assert results.of_subject(key, "b") == {0: 1.0, 1: 2.0}
    assert results.of_subject(key, "a") == {}
    assert results.subjects() == ["b"]


def test_runs_are_merged_with_rounds_of_their_own() -> None:
    one = [*head("a"), *sample("a", "stat.cold", [1.0, 2.0])]
    other = [*head("a", "b"), *sample("a", "stat.cold", [3.0]), *sample("b", "stat.cold", [4.0])]
    results = Results.of(records.merge([one, other]))
    key = Key("lookup", "own/10", "stat.cold")
    assert results.of_subject(key, "a") == {0: 1.0, 1: 2.0, 2: 3.0}
    assert results.of_subject(key, "b") == {2: 4.0}
    assert [record["name"] for record in results.kind("subject")] == ["a", "b"]
    assert len(list(results.kind("host"))) == 1
