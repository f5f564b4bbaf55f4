"""`python -m benchmarks` and `layerfs bench`."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from benchmarks import questions
from benchmarks.__main__ import main
from benchmarks.model import BenchError, Scale
from benchmarks.options import parser, plan
from benchmarks.subjects import QUICK_IMAGES, all_subjects, chosen
from tests.host import BIN, PROJECT
from tests.waiting import PATIENCE


def words_of(command: Sequence[str | Path]) -> str:
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout


def test_every_question_says_what_it_asks() -> None:
    for question in questions.all_questions():
        assert questions.text(question).partition("\n")[0].endswith("?"), question.name
        assert question.cases(Scale.FULL), question.name


def test_question_files_and_the_order_agree() -> None:
    helpers = {"__init__", "passes", "programs", "question"}
    files = {path.stem for path in (PROJECT / "benchmarks/questions").glob("*.py")} - helpers
    assert files == set(questions.ORDER)


def test_unknown_names_are_refused_with_the_known_ones(scratch: Path) -> None:
    with pytest.raises(BenchError, match="no question is called nonsense; there are: lookup"):
        questions.chosen(["nonsense"], Scale.QUICK)
    with pytest.raises(BenchError, match="no subject is called nonsense; there are: bind"):
        chosen(all_subjects(scratch), ["nonsense"], quick=True)


def test_quick_has_a_budget_and_full_has_none(scratch: Path) -> None:
    quick = plan(parser().parse_args(["run", "--quick", "--cache", str(scratch)]))
    full = plan(parser().parse_args(["run", "--full", "--cache", str(scratch)]))
    assert quick.budget is not None and quick.budget < 120
    assert full.budget is None
    assert {one.name for one in quick.subjects} < {one.name for one in full.subjects}
    twin = next(one for one in full.subjects if one.owner)
    assert (
        len(full.asked(twin, full.cases(full.questions[0])))
        > 1
        == len(quick.asked(twin, full.cases(full.questions[0])))
    )


def test_quick_asks_images_of_two_subjects_and_these_nothing_else(scratch: Path) -> None:
    quick = plan(parser().parse_args(["run", "--quick", "--cache", str(scratch)]))
    cases = questions.chosen(["lookup"], Scale.QUICK)[0].cases(Scale.QUICK)
    asked = {one.name: {case.images for case in quick.asked(one, cases)} for one in quick.subjects}
    assert {name for name, kinds in asked.items() if True in kinds} == set(QUICK_IMAGES)
    assert all(kinds == {name in QUICK_IMAGES} for name, kinds in asked.items())


def test_list_shows_questions_and_subjects(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert "question lookup" in shown
    assert "subject  kernel-overlay" in shown


def test_layerfs_bench_is_the_same_program() -> None:
    module = words_of([sys.executable, "-m", "benchmarks", "list"])
    verb = words_of([BIN / "layerfs", "bench", "list"])
    # Versions aside: somebody may commit in between.
    assert [line.split()[:2] for line in verb.splitlines()] == [line.split()[:2] for line in module.splitlines()]


@pytest.mark.alone
@pytest.mark.mounts
def test_a_run_from_the_command_line_writes_everything(scratch: Path, require: Callable[..., None]) -> None:
    require("root", "kernel overlay")
    out = scratch / "out"
    peer = "mine=mount -t overlay x -o lowerdir={lowers},upperdir={upper},workdir={work} {mountpoint}"
    words_of([
        BIN / "layerfs", "bench", "--quick", "--only", "wide", "--tree", "wide-100", "--rounds", "1",
        "--subjects", "bind,mine", "--peer", peer, "--cache", scratch / "cache", "--out", out,
    ])  # fmt: skip
    assert {path.name for path in out.iterdir()} == {"results.jsonl", "report.md", "report.html", "plots"}
    assert "| mine |" in (out / "report.md").read_text()
    assert main(["compare", str(out), str(out)]) == 0
