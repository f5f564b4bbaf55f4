"""The rows beside the strongest peers."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.model import BenchError, Scale
from benchmarks.options import parser
from benchmarks.questions import all_questions
from benchmarks.records import Key, Results
from benchmarks.requirements import CHANGES, FLAT, GROUPS, MAIN, MOUNTS, PEER, PROGRAMS, READERS
from benchmarks.rows import RowsPlan, keys, plan, table
from benchmarks.subjects import all_subjects
from benchmarks.subjects.bind import Bind
from tests.benchmarks.samples import head, sample

DEBIAN = "fuse-overlayfs-1.10"


def planned(scratch: Path, *words: str) -> RowsPlan:
    return plan(parser().parse_args(["rows", "--cache", str(scratch), *words]))


def line_of(records: list[dict[str, object]], title: str) -> str:
    return next(line for line in table(Results.of(records)).splitlines() if line.startswith(title))


def test_each_row_can_be_measured(scratch: Path) -> None:
    known = {(question.name, case.key()) for question in all_questions() for case in question.cases(Scale.FULL)}
    assert {(key.question, key.case) for group in GROUPS for key in keys(group)} <= known
    wanted = planned(scratch)
    assert {question.name: len(wanted.cases(question)) for question in wanted.questions}["lookup"] == 2


def test_each_row_is_in_one_group() -> None:
    assert [key for key, count in Counter(row.key for group in GROUPS for row in group.rows).items() if count > 1] == []


def test_the_default_is_the_quick_group_with_its_budget(scratch: Path) -> None:
    wanted = planned(scratch)
    assert (list(wanted.groups), wanted.budget) == ([MAIN], 660.0)
    assert planned(scratch, "--groups", "all").budget is None
    assert list(planned(scratch, "--groups", "all").groups) == list(GROUPS)
    assert list(planned(scratch, "--groups", "changes,flat").groups) == [CHANGES, FLAT]


def test_an_unknown_group_is_refused_with_the_known_ones(scratch: Path) -> None:
    with pytest.raises(BenchError, match="no group is called nonsense; there are: main"):
        planned(scratch, "--groups", "main,nonsense")
    assert main(["rows", "--groups", "", "--cache", str(scratch)]) == 1


def test_everybody_is_asked_what_its_group_asks_and_no_more(scratch: Path) -> None:
    wanted = planned(scratch, "--groups", "images,flat,mounts", "--rounds", "3")
    steps = list(wanted.steps([*all_subjects(scratch), Bind()]))
    asked = {(case.key(), subject.name) for _, question, case, subject in steps if question.name == "lookup"}
    assert {case for case, subject in asked if subject == "layerfs-fuse"} == {"own/1", "own/128", "own.sqfs/10"}
    assert all(case == "own.sqfs/10" for case, subject in asked if subject != "layerfs-fuse")
    times = Counter((question.name, case.key(), subject.name) for _, question, case, subject in steps)
    assert set(times.values()) == {3}  # whatever a question is asked in a run of everything
    assert ("memory", "own/10", "layerfs-fuse") in times


def test_rootless_measures_the_twins_of_all(scratch: Path) -> None:
    wanted = planned(scratch, "--rootless")
    assert {subject.name for subject in wanted.subjects} >= {"kernel-overlay-rootless", "layerfs-fuse-rootless"}
    assert all(subject.owner for subject in wanted.subjects)
    assert {subject.name for _, _, _, subject in wanted.steps(wanted.subjects)} == {one.name for one in wanted.subjects}
    records = [*head("layerfs-fuse-rootless"), *sample("layerfs-fuse-rootless", "stat.cold", [20.0])]
    assert table(Results.of(records)).startswith("main-rootless")


def test_a_row_shows_our_share_and_whether_its_bound_is_missed() -> None:
    records = head("kernel-overlay", PEER, "layerfs-fuse")
    records += sample("layerfs-fuse", "stat.cold", [20.0, 30.0])
    records += sample(PEER, "stat.cold", [40.0, 40.0])
    records += sample("kernel-overlay", "stat.cold", [10.0, 10.0])
    assert line_of(records, "cold stat").split() == ["cold", "stat", "10", "40", "25", "0.62", "(0.65)", "2.50", "2"]


def test_a_rate_is_turned_round_and_a_missed_bound_is_marked() -> None:
    where = {"question": "read", "case": "big/10", "unit": "MB/s"}
    records = head(PEER, "layerfs-fuse")
    records += sample("layerfs-fuse", "sequential.cold", [50.0], **where)
    records += sample(PEER, "sequential.cold", [100.0], **where)
    assert "2.00 (1.11)!" in table(Results.of(records))


def test_the_faster_of_two_peers_counts_in_each_round() -> None:
    where = {"question": "replace"}
    records = head("layerfs-fuse", PEER, DEBIAN)
    records += sample("layerfs-fuse", "new.cold", [9.0, 10.0, 9.0], **where)
    records += sample(PEER, "new.cold", [10.0, 40.0, 20.0], **where)
    records += sample(DEBIAN, "new.cold", [40.0, 10.0, 10.0], **where)
    assert "0.90 (0.90) " in line_of(records, "create, rename")
    assert PROGRAMS.rows[-2].key == Key("replace", "own/10", "new.cold")


def test_one_stack_is_compared_with_another_of_our_own() -> None:
    records = head("layerfs-fuse")
    records += sample("layerfs-fuse", "stat.warm", [2.0, 2.0], case="own/1")
    records += sample("layerfs-fuse", "stat.warm", [3.0, 3.0], case="own/128")
    assert "1.50 (1.10)!" in line_of(records, "warm stat")
    assert FLAT.rows[0].key == Key("lookup", "own/128", "stat.warm")


def test_a_value_is_bounded_by_itself() -> None:
    where = {"question": "memory", "unit": "B"}
    records = [*head("layerfs-fuse"), *sample("layerfs-fuse", "per-inode", [390.0, 410.0, 500.0], **where)]
    assert line_of(records, "held inode").split()[-3:] == ["410", "(400)!", "3"]
    assert MOUNTS.rows[0].key == Key("memory", "own/10", "per-inode")


@pytest.mark.parametrize(("cpus", "said"), [(2, ["0.75", "1"]), (4, ["0.75", "(0.62)!", "1"])])
def test_two_readers_are_asked_more_where_they_have_cpus(cpus: int, said: list[str]) -> None:
    where = {"question": "readers"}
    records = head("layerfs-fuse")
    records[1]["cpus"] = cpus
    records += sample("layerfs-fuse", "stat.one.cold", [40.0], **where)
    records += sample("layerfs-fuse", "stat.two.cold", [30.0], **where)
    assert line_of(records, "stat, two readers").split()[-len(said) :] == said
    assert READERS.rows[0].key == Key("readers", "own/10", "stat.two.cold")


def test_a_peer_that_is_not_built_is_left_out_and_named(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.subjects.fuse_overlayfs.PLACES", ())
    monkeypatch.setenv("PATH", "")
    wanted = planned(scratch)
    assert PEER not in {subject.name for subject in wanted.subjects}
    records = [*head("layerfs-fuse"), *sample("layerfs-fuse", "stat.cold", [20.0])]
    assert "make peers" in table(Results.of(records)).splitlines()[-1]


def test_what_could_not_be_measured_is_said_once_for_all() -> None:
    records = head("layerfs-fuse", PEER)
    for subject in ("layerfs-fuse", PEER):
        records.append({"kind": "failed", "question": "real_npm", "case": "npm/10", "subject": subject, "round": 0,
                        "error": "npm is not installed"})  # fmt: skip
    said = table(Results.of(records)).splitlines()[-1]
    assert said == f"real_npm failed: layerfs-fuse, {PEER}: npm is not installed"


def test_results_that_exist_are_printed(scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.records import save

    save([*head("layerfs-fuse"), *sample("layerfs-fuse", "stat.cold", [20.0])], scratch / "results.jsonl")
    assert main(["rows", "--of", str(scratch)]) == 0
    assert "cold stat" in capsys.readouterr().out
