"""The rows beside the strongest peers."""

from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.model import Scale
from benchmarks.options import parser
from benchmarks.questions import all_questions
from benchmarks.records import Results
from benchmarks.rows import PEER, ROWS, plan, table
from tests.benchmarks.samples import head, sample


def test_each_row_is_measured(scratch: Path) -> None:
    known = {(question.name, case.key()) for question in all_questions() for case in question.cases(Scale.NORMAL)}
    assert {(row.key.question, row.key.case) for row in ROWS} <= known
    wanted = plan(parser().parse_args(["rows", "--cache", str(scratch)]))
    assert {question.name: len(wanted.cases(question)) for question in wanted.questions}["lookup"] == 2


def test_a_row_shows_our_share_and_whether_its_bound_is_missed() -> None:
    records = head("kernel-overlay", PEER, "layerfs-fuse")
    records += sample("layerfs-fuse", "stat.cold", [20.0, 30.0])
    records += sample(PEER, "stat.cold", [40.0, 40.0])
    records += sample("kernel-overlay", "stat.cold", [10.0, 10.0])
    _, line, _ = table(Results.of(records)).splitlines()
    assert line.split() == ["cold", "stat", "10", "40", "25", "0.62", "(0.65)", "2.50", "2"]


def test_a_rate_is_turned_round_and_a_missed_bound_is_marked() -> None:
    where = {"question": "read", "case": "big/10", "unit": "MB/s"}
    records = head(PEER, "layerfs-fuse")
    records += sample("layerfs-fuse", "sequential.cold", [50.0], **where)
    records += sample(PEER, "sequential.cold", [100.0], **where)
    assert "2.00 (1.11)!" in table(Results.of(records))


def test_a_peer_that_is_not_built_is_left_out_and_named(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.subjects.fuse_overlayfs.PLACES", ())
    wanted = plan(parser().parse_args(["rows", "--cache", str(scratch)]))
    assert PEER not in {subject.name for subject in wanted.subjects}
    records = [*head("layerfs-fuse"), *sample("layerfs-fuse", "stat.cold", [20.0])]
    assert "make peers" in table(Results.of(records)).splitlines()[-1]


def test_results_that_exist_are_printed(scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.records import save

    save([*head("layerfs-fuse"), *sample("layerfs-fuse", "stat.cold", [20.0])], scratch / "results.jsonl")
    assert main(["rows", "--of", str(scratch)]) == 0
    assert "cold stat" in capsys.readouterr().out
