"""The project's targets, judged."""

import pytest

from benchmarks.records import Key
from benchmarks.targets import OURS, PIPELINE, TWIN, Goal, judge, targets, verdicts
from tests.benchmarks.samples import results

STAT = Key("lookup", "own/10", "stat.cold")


@pytest.mark.parametrize(("ours", "met"), [(79.0, True), (81.0, False)])
def test_a_ratio_is_met_up_to_its_bound(ours: float, met: bool) -> None:
    found = judge(results({OURS: [ours], "peer": [100.0]}), Goal("stat", STAT, 0.8, "peer"))
    assert found.met is met
    assert (found.ours, found.theirs) == (ours, 100.0)


def test_a_rate_is_turned_round_so_that_half_the_rate_is_two() -> None:
    found = judge(results({OURS: [50.0], "peer": [100.0]}, unit="MB/s"), Goal("read", STAT, 1.0, "peer"))
    assert found.found is not None and found.found.median == 2.0
    assert found.met is False


def test_a_bound_without_a_peer_is_on_the_value() -> None:
    assert judge(results({OURS: [0.0]}), Goal("idle", STAT, 0.0)).met is True


def test_what_nobody_measured_has_no_verdict() -> None:
    assert all(one.met is None for one in verdicts(results({"peer": [1.0]})))


def test_every_target_has_a_measure_of_its_own() -> None:
    names = [(target.key, target.against, target.against_case) for target in targets()]
    assert len(set(names)) == len(names) == 47


def test_on_images_the_rootless_mount_is_judged_by_the_pipeline_of_today() -> None:
    found = results({OURS: [9.0], TWIN: [50.0], PIPELINE: [100.0]}, case="own.sqfs/10")
    [one] = [one for one in verdicts(found) if one.found]
    assert (one.target.title, one.ours, one.theirs, one.met) == ("cold stat, own, 10 images", 50.0, 100.0, True)


@pytest.mark.parametrize(("unit", "best"), [("us", 0.5), ("MB/s", 2.0)])
def test_the_best_rounds_are_the_fastest_of_each_side(unit: str, best: float) -> None:
    found = judge(results({OURS: [10.0, 90.0], "peer": [20.0, 180.0]}, unit=unit), Goal("x", STAT, 1.0, "peer"))
    assert found.best == best
