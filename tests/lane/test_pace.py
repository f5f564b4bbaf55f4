"""Asleep, looking for the next request, or on the client's processor: what has it come sooner."""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from layerfs.lane.events import Way
from layerfs.lane.lane import Lane
from tests.lane.rig import Rig

FAST, MIDDLE, SLOW, LATE = 5_000, 15_000, 20_000, 10_000_000  # ns
COUNT = 10_000


@pytest.fixture
def lane() -> Iterator[Lane]:
    with Rig() as rig:
        yield rig.lane


def run(lane: Lane, gaps: Callable[[Way], int], count: int = COUNT) -> Counter[Way]:
    """Have requests come after gaps that depend on the way; return how many were waited for by each."""
    seen: Counter[Way] = Counter()
    for _ in range(count):
        seen[lane.way] += 1
        lane.came(gaps(lane.way))
    return seen


def only(best: Way, other: int = SLOW) -> Callable[[Way], int]:
    """Return gaps that are shorter by one way."""
    return lambda way: FAST if way == best else other


@pytest.mark.parametrize("best", Way)
def test_a_lane_waits_as_has_requests_come_sooner(lane: Lane, best: Way) -> None:
    seen = run(lane, only(best))
    assert seen[best] > 0.9 * COUNT


@pytest.mark.parametrize("best", [Way.SLEEPS, Way.LOOKS])
def test_a_lane_notices_that_another_way_is_better_by_now(lane: Lane, best: Way) -> None:
    for before in (Way.SLEEPS, Way.LOOKS, Way.BESIDE):
        run(lane, only(before))
        assert run(lane, only(best))[best] > 0.8 * COUNT


def test_a_lane_does_not_look_where_it_makes_no_difference(lane: Lane) -> None:
    assert run(lane, lambda _: FAST)[Way.SLEEPS] > 0.95 * COUNT


def test_a_lane_goes_to_its_client_only_for_many_requests(lane: Lane) -> None:
    for _ in range(20):
        assert not run(lane, only(Way.BESIDE), count=60)[Way.BESIDE]
        lane.came(LATE)


def test_a_lane_goes_to_its_client_though_some_of_many_requests_come_late(lane: Lane) -> None:
    for _ in range(60):
        run(lane, only(Way.BESIDE), count=60)
        lane.came(500_000)
    assert lane.way == Way.BESIDE


def test_a_lane_leaves_its_client_when_that_asks_no_more_and_is_back_soon(lane: Lane) -> None:
    run(lane, only(Way.BESIDE))
    assert lane.way == Way.BESIDE
    lane.came(LATE)
    assert lane.way != Way.BESIDE
    run(lane, only(Way.BESIDE), count=600)
    assert lane.way == Way.BESIDE


def test_a_lane_seldom_tries_again_to_go_where_it_was_in_vain(lane: Lane) -> None:
    gaps = {Way.SLEEPS: SLOW, Way.LOOKS: MIDDLE, Way.BESIDE: SLOW}
    seen = run(lane, gaps.__getitem__, count=10 * COUNT)
    assert 0 < seen[Way.BESIDE] < 0.03 * 10 * COUNT


def test_a_lane_that_answers_quickly_stays_where_it_is(lane: Lane) -> None:
    gaps = {Way.SLEEPS: SLOW, Way.LOOKS: 10_000, Way.BESIDE: FAST}
    assert not run(lane, gaps.__getitem__)[Way.BESIDE]


def test_a_lane_does_not_look_for_what_comes_seldom(lane: Lane) -> None:
    run(lane, only(Way.LOOKS), count=100)
    assert run(lane, lambda _: LATE, count=1000)[Way.LOOKS] < 50
