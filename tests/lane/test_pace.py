"""Looking for the next request or sleeping until it comes: what has it come sooner."""

from collections.abc import Callable, Iterator

import pytest

from layerfs.lane.lane import Lane
from tests.lane.rig import Rig

FAST, SLOW = 5_000, 20_000  # ns


@pytest.fixture
def lane() -> Iterator[Lane]:
    with Rig() as rig:
        yield rig.lane


def run(lane: Lane, gap: Callable[[bool], int], count: int = 5000) -> list[bool]:
    """Have requests come after gaps that depend on whether the lane looks; return whether it did."""
    seen = []
    for _ in range(count):
        seen.append(lane.looks)
        lane.came(gap(lane.looks))
    return seen


def test_a_lane_sleeps_where_that_has_requests_come_sooner(lane: Lane) -> None:
    looked = run(lane, lambda looks: SLOW if looks else FAST)
    assert any(looked), "it was never tried"
    assert sum(looked) < len(looked) // 50


def test_a_lane_looks_where_that_has_requests_come_sooner(lane: Lane) -> None:
    assert sum(run(lane, lambda looks: FAST if looks else SLOW)) > 4500


def test_a_lane_sleeps_where_it_makes_no_difference(lane: Lane) -> None:
    assert sum(run(lane, lambda _: FAST)) < 400


def test_a_lane_notices_that_the_other_way_is_better_by_now(lane: Lane) -> None:
    run(lane, lambda looks: SLOW if looks else FAST)
    assert sum(run(lane, lambda looks: FAST if looks else SLOW)) > 4500
    assert sum(run(lane, lambda looks: SLOW if looks else FAST)) < 500


def test_a_lane_does_not_look_for_what_comes_seldom(lane: Lane) -> None:
    run(lane, lambda looks: FAST if looks else SLOW, count=100)
    assert sum(run(lane, lambda _: 10_000_000, count=1000)) < 50
