"""The replay of changelogs: months, what is sent, and what each way of planning has before it."""

import json
import os
from pathlib import Path

import pytest

from benchmarks import planning
from benchmarks.planning import STRATEGIES, History, Month, _same, ours, read_history, replay, table
from layerfs.plan.cost import Prices
from layerfs.plan.dpkg import rate
from layerfs.plan.graph import Module
from layerfs.plan.units import Units
from tests.plan.test_dpkg import STATUS, trailers

# Two packages of one source, one that changes in each month, one that never does.
MONTHS = {"pair": frozenset({10, 14}), "wild": frozenset(range(8, 20)), "calm": frozenset({8})}
MODULES = (
    Module("a", 100, source="pair"),
    Module("b", 200, source="pair"),
    Module("w", 1000, source="wild"),
    Module("c", 50_000, source="calm"),
)


@pytest.fixture
def history() -> History:
    return History(MODULES, MONTHS)


def test_rates_know_nothing_of_the_months_to_come(history: History) -> None:
    assert history.last == 19
    assert history.recent("pair", 12) == rate([10], 12)
    assert history.flat("pair", 12) < history.flat("pair", 14)
    assert history.foreseen("pair", 14) < history.foreseen("pair", 12)


@pytest.mark.parametrize(
    ("one", "other", "changed", "same"),
    [
        ([0, 0, 1, 2], [5, 5, 6, 7], [False] * 4, {5, 6, 7}),  # numbers mean nothing
        ([0, 0, 1, 2], [0, 0, 1, 2], [False, True, False, True], {1}),
        ([0, 0, 1, 2], [0, 1, 1, 2], [False] * 4, {2}),
    ],
)
def test_a_layer_stands_if_it_has_what_it_had_unchanged(
    one: list[int], other: list[int], changed: list[bool], same: set[int]
) -> None:
    assert _same(one, other, changed) == same


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_way_sends_at_least_what_changed(name: str, history: History) -> None:
    row = replay(history, name, 3, 12)
    assert (row["builds"], row["planner"]) == (8, name)
    changed = (8 * 1000 + 300) / 8  # the source `pair` changes once, `wild` in each month
    assert row["changed"] == changed
    assert row["sent"] >= changed
    assert row["layers"] <= (4 if name == "each" else 3)
    if name in ("each", "plan"):
        assert row["sent"] == changed  # three layers are enough: pair, wild, calm
    if name == "one":
        assert (row["sent"], row["reused_layers"]) == (51_300, 0)


def test_our_way_is_told_which_layers_are_as_they_were(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Prices] = []

    def make_plan(units: Units, k: int, prices: Prices) -> list[int]:
        seen.append(prices)
        return [0] * len(units)

    monkeypatch.setattr(planning, "make_plan", make_plan)
    units = history.units(12, history.recent)
    ours(Month(units, [False, False, True, False]), [0, 0, 1, 2], 3, price=7)
    assert (seen[0].layer, seen[0].before, seen[0].clean) == (7, (0, 0, 1, 2), frozenset({0, 2}))


def test_table_has_a_line_for_each_planner_and_a_column_for_each_k() -> None:
    rows = [
        {"planner": name, "k": k, "sent": sent * 1e6, "reused_layers": 0.5}
        for name, k, sent in (("plan", 8, 10), ("plan", 4, 20), ("one", 4, 30))
    ]
    assert table(rows).splitlines() == [
        "| | K = 4 | K = 8 |",
        "|---|---|---|",
        "| plan | 20 (50%) | 10 (50%) |",
        "| one | 30 (50%) |  |",
    ]


def test_a_root_filesystem_is_replayed_from_its_changelogs(scratch: Path) -> None:
    root = scratch / "root"
    (root / "var/lib/dpkg/info").mkdir(parents=True)
    (root / "var/lib/dpkg/status").write_text(STATUS)
    for package, dates in {"app": ["2 Mar 2024", "1 Jan 2024"], "libc6": ["1 Feb 2024"]}.items():
        (root / "usr/share/doc" / package).mkdir(parents=True)
        (root / "usr/share/doc" / package / "changelog.Debian.gz").write_bytes(trailers(*dates))
        (root / "var/lib/dpkg/info" / f"{package}.list").write_text(f"/.\n/usr/{package}\n")
        (root / "usr" / package).write_bytes(bytes(10))
    found = read_history(os.fspath(root))
    assert {"suite", "libc6"} <= found.months.keys()
    assert {module.source for module in found.modules} == found.months.keys()
    words = ["--out", str(scratch / "out"), "--ks", "2", "--since", "2024-01", "--planners", "plan", "each"]
    assert planning.main([str(root), *words]) == 0
    rows = json.loads((scratch / "out/planning.json").read_text())["rows"]
    assert [row["planner"] for row in rows] == ["plan", "each"]
    assert (scratch / "out/planning.md").read_text().startswith("| | K = 2 |")
