"""Questions of the harness, asked of a tree of 200 files."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import questions
from benchmarks.model import BenchError, BuiltTree, Case, Scale, Subject, Value
from benchmarks.mounted_site import MountedSite
from benchmarks.questions import find, real_npm, write
from benchmarks.questions.passes import tall_cases, written_cases
from benchmarks.questions.question import Question
from benchmarks.records import Results, Writer
from benchmarks.runner import Plan, Run
from benchmarks.subjects.bind import Bind
from benchmarks.subjects.kernel_overlay import KernelOverlay
from benchmarks.trees import build, database, debian, lowest, node, upgrade
from tests.conftest import mounts_below

MEASURES = {
    "mkdir": {"mkdir.cold"},
    "replace": {"new.cold", "lower.cold"},
    "write": {"closed.cold", "synced.cold"},
    "find": {"find.cold", "find.warm"},
    "readers": {f"{op}.{many}.cold" for op in ("stat", "absent", "open") for many in ("one", "two")},
}


class Small:
    """Asks another question of a small tree."""

    rounds = 1.0

    def __init__(self, question: Question) -> None:
        self.question = question
        self.name = question.name

    def cases(self, scale: Scale) -> list[Case]:
        return [Case("tiny", 3, writes=True)]

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterable[Value]:
        return self.question.sample(site, layers, case)


def asked(scratch: Path, question: Question) -> Results:
    """Ask two subjects once; nothing may stay behind."""
    writer = Writer(None)
    cache = scratch / "cache"
    subjects: list[Subject] = [Bind(), KernelOverlay()]
    Run(Plan([question], subjects, Scale.NORMAL, 1, cache, digests=False), writer, lambda what, share: None).run()
    assert mounts_below(scratch) == []
    assert list((cache / "run").iterdir()) == []
    return Results.of(writer.records)


@pytest.mark.mounts
@pytest.mark.alone  # drops the host's caches
@pytest.mark.parametrize("name", MEASURES)
def test_a_question_is_answered_by_every_subject(
    name: str, scratch: Path, require: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    require("root", "kernel overlay", "find")
    monkeypatch.setattr(write, "SIZE", 300_000)  # the last block is none of 128 KiB
    monkeypatch.setattr(find, "WARM", 3)
    [question] = questions.chosen([name], Scale.FULL)
    found = asked(scratch, Small(question))
    assert not list(found.kind("failed"))
    for subject in ("bind", "kernel-overlay"):
        of = {one["measure"]: one["value"] for one in found.kind("sample") if one["subject"] == subject}
        assert of.keys() == MEASURES[name]
        assert all(value > 0 for value in of.values())


@pytest.mark.mounts
@pytest.mark.alone
def test_what_writes_leaves_what_it_says(scratch: Path, require: Callable[..., None]) -> None:
    require("root", "kernel overlay")
    layers = build("tiny", 3, scratch)
    site = MountedSite(KernelOverlay(), scratch / "site", scratch)
    site.make()
    names = scratch / "names"
    names.write_bytes(b"large\0")
    with site.mounted(layers):
        assert site.run("write-sync", names, 200_000).bytes == 200_000
        assert site.run("replace", layers.present).count == 200
        assert site.run("mkdir", layers.absent).count == 200
    first = layers.present.read_bytes().split(b"\0")[0].decode()
    assert (site.upper / "large").read_bytes() == b"x" * 200_000
    assert (site.upper / first).read_bytes() == b"x" * 4096
    assert (site.upper / f"{first}.absent").is_dir()
    assert list(site.upper.rglob("*.new")) == []


def test_a_tree_of_the_lowest_layer_is_made_once_and_empty_above(scratch: Path) -> None:
    made: list[Path] = []

    def make(base: Path) -> None:
        made.append(base)
        base.mkdir(parents=True)
        (base / "file").write_text("x")

    one, ten = lowest.build("sample", 1, scratch, make), lowest.build("sample", 10, scratch, make)
    assert (len(made), one.lowers, ten.lowers[-1]) == (1, (made[0],), made[0])
    assert [list(lower.iterdir()) for lower in ten.lowers[:-1]] == [[]] * 9
    assert (ten.count, ten.present.read_bytes(), ten.absent.read_bytes()) == (1, b"file\0", b"file.absent\0")


def test_the_newest_postgresql_is_taken_and_a_missing_one_is_named(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "INSTALLED", scratch)
    with pytest.raises(BenchError, match="PostgreSQL is not installed"):
        database.programs()
    for number in ("9", "15"):
        (scratch / number / "bin").mkdir(parents=True)
        (scratch / number / "bin/pgbench").touch()
    assert database.programs() == scratch / "15/bin"


def test_a_missing_npm_is_named(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(BenchError, match="npm is not installed"):
        node.make(scratch / "npm/1/000", scratch)
    assert list(scratch.iterdir()) == []
    layers = BuiltTree("npm", (), scratch, scratch, scratch, 0)
    with pytest.raises(BenchError, match="npm is not installed"):
        list(real_npm.QUESTION.sample(MountedSite(Bind(), scratch / "site", scratch), layers, Case("npm", 10)))


def test_only_a_full_run_asks_for_very_many_layers() -> None:
    assert [tall_cases(scale) for scale in (Scale.QUICK, Scale.NORMAL)] == [[], []]
    assert [case.layers for case in tall_cases(Scale.FULL)] == [128]
    assert [[case.layers for case in written_cases("csrc", scale)] for scale in Scale] == [[], [10], [10, 40]]


@pytest.mark.parametrize("tree", [debian, upgrade])
def test_a_small_debian_that_cannot_be_unpacked_leaves_nothing(scratch: Path, tree: Any) -> None:
    (scratch / "rootfs.tar").write_bytes(b"cut off")
    with pytest.raises(BenchError, match=r"cannot build a small Debian: .*tar: "):
        tree.build(2, scratch)
    assert [path for path in scratch.rglob("*") if path.is_file()] == [scratch / "rootfs.tar"]
    assert list(scratch.rglob(".[0-9]*")) == []
