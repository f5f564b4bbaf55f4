"""What became slower, beyond the noise and beyond what the machine itself did."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.compare import MeasureChange, compare
from benchmarks.records import Results, Writer
from tests.benchmarks.samples import results

CALM = (10.0, 10.1, 9.9, 10.0, 10.05)


def change(
    old: Sequence[float], new: Sequence[float], peer: tuple[float, float] = (1.0, 1.0), unit: str = "us"
) -> MeasureChange:
    before = results({"layerfs-fuse": old, "kernel-overlay": [peer[0]] * 5}, unit=unit)
    after = results({"layerfs-fuse": new, "kernel-overlay": [peer[1]] * 5}, unit=unit)
    [found] = compare(before, after)
    return found


def times(values: Sequence[float], factor: float) -> list[float]:
    return [value * factor for value in values]


@pytest.mark.parametrize(
    ("factor", "slower", "faster"), [(1.0, False, False), (1.05, False, False), (1.5, True, False), (0.5, False, True)]
)
def test_a_change_above_threshold_and_noise_is_flagged(factor: float, slower: bool, faster: bool) -> None:
    found = change(CALM, times(CALM, factor))
    assert (found.slower(0.1), found.faster(0.1)) == (slower, faster)


def test_a_change_within_the_noise_is_not_flagged() -> None:
    wild = (10.0, 14.0, 7.0, 12.0, 8.0)
    assert not change(wild, times(wild, 1.3)).slower(0.1)


def test_a_machine_that_became_slower_is_not_our_fault() -> None:
    found = change(CALM, times(CALM, 2.0), peer=(5.0, 10.0))
    assert found.drift == 2.0
    assert not found.slower(0.1)


def test_less_of_a_rate_is_slower() -> None:
    assert change(CALM, times(CALM, 0.5), unit="MB/s").slower(0.1)
    assert not change(CALM, times(CALM, 2.0), unit="MB/s").slower(0.1)


def test_something_where_there_was_nothing_is_slower() -> None:
    assert change([0.0] * 5, [3.0] * 5, unit="per mille").slower(0.1)
    assert not change([0.0] * 5, [0.0] * 5, unit="per mille").slower(0.1)


def save(path: Path, found: Results) -> None:
    path.mkdir()
    writer = Writer(path / "results.jsonl")
    for record in found.records:
        writer.write(**record)
    writer.close()


def test_exit_status_is_for_ci(scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(scratch / "old", results({"layerfs-fuse": CALM, "bind": CALM}))
    save(scratch / "new", results({"layerfs-fuse": times(CALM, 3.0), "bind": CALM}))
    assert main(["compare", str(scratch / "old"), str(scratch / "old")]) == 0
    assert main(["compare", str(scratch / "old"), str(scratch / "new/results.jsonl")]) == 1
    assert "slower: layerfs-fuse lookup own/10 stat.cold: 10 -> 30 us (x3.00" in capsys.readouterr().out


def test_results_that_are_not_there_are_an_error_without_a_traceback(
    scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(scratch / "none"), str(scratch / "none")]) == 1
    assert "layerfs bench: cannot read" in capsys.readouterr().err
