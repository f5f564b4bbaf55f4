"""What a run says on the terminal."""

import pytest

from benchmarks import targets
from benchmarks.__main__ import Lines
from benchmarks.records import Record, Results
from benchmarks.report.summary import summary
from tests.benchmarks.samples import head, sample


def results(*more: Record) -> Results:
    records = head("kernel-overlay", "layerfs-fuse", targets.TWIN)
    records += sample("kernel-overlay", "answered", [4.0], question="mount", unit="ms")
    records += sample("layerfs-fuse", "answered", [50.0, 70.0, 60.0], question="mount", unit="ms")
    records += sample("layerfs-fuse", "stat.cold", [57.26])
    records += sample(targets.TWIN, "stat.cold", [1234.5], case="own.sqfs/10")
    return Results.of([*records, *more])


def test_an_operation_has_a_line_and_a_subject_a_column() -> None:
    directories, images, _ = (part.splitlines() for part in summary(results()).split("\n\n")[:3])
    assert [line.split() for line in directories] == [
        ["10", "layers", "of", "directories,", "10,000", "files:"],
        ["kernel-", "layerfs-"],
        ["overlay", "fuse"],
        ["mount", "and", "first", "ls", "[ms]", "4", "60"],
        ["stat", "[us]", "57.3"],
    ]
    assert images[-1].split() == ["stat", "[us]", "1234"]
    assert max(map(len, [*directories, *images])) <= 80


def test_without_root_a_fresh_mount_stands_for_a_cold_one() -> None:
    records = [*head("layerfs-fuse"), *sample("layerfs-fuse", "stat.fresh", [9.0])]
    assert "stat [us]" in summary(Results.of(records))


def test_what_was_left_out_is_said_with_the_reason() -> None:
    where = {"question": "unlink", "case": "own/10"}
    said = summary(
        results(
            {"kind": "skipped", "subject": "bind", "reason": "no time left", **where},
            {"kind": "skipped", "subject": "layerfs-fuse", "reason": "no time left", **where},
            {"kind": "subject", "name": "btrfs", "about": "x", "version": "", "missing": "no btrfs-progs"},
        )
    )
    assert "- no time: unlink own/10 (bind, layerfs-fuse)" in said
    assert "- btrfs: no btrfs-progs" in said
    assert "questions that --quick does not ask: " in said and "million" in said
    assert "issue" not in said


def test_progress_in_a_pipe_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    tell = Lines()
    for done in range(100):
        tell("round 1: lookup own/10 layerfs-fuse", done / 100)
    assert capsys.readouterr().err == "layerfs bench: 0 s, 0%: round 1: lookup own/10 layerfs-fuse\n"
