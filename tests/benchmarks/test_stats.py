"""Medians, spreads, ratios paired by round, histograms."""

import math

import pytest

from benchmarks import stats


def test_spread_is_median_quartiles_and_mad() -> None:
    found = stats.spread([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (found.median, found.low, found.high, found.mad, found.n) == (3.0, 2.0, 4.0, 1.0, 5)


def test_spread_of_one_value_is_that_value() -> None:
    assert stats.spread([7.0]) == stats.Spread(7.0, 7.0, 7.0, 0.0, 1)


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.25, 1.75), (0.5, 2.5), (1.0, 4.0)])
def test_quantile_lies_between_the_closest_ranks(share: float, value: float) -> None:
    assert stats.quantile([4.0, 1.0, 3.0, 2.0], share) == pytest.approx(value)


def test_ratio_pairs_rounds_so_that_drift_does_not_show() -> None:
    """The host became ten times slower between rounds; ours takes twice theirs in each."""
    found = stats.ratio({0: 2.0, 1: 20.0, 2: 200.0}, {0: 1.0, 1: 10.0, 2: 100.0})
    assert found == stats.Spread(2.0, 2.0, 2.0, 0.0, 3)


def test_rounds_that_only_one_side_has_are_left_out() -> None:
    assert stats.paired({0: 4.0, 1: 9.0}, {1: 3.0, 2: 1.0}) == [3.0]
    assert stats.ratio({0: 4.0}, {1: 3.0}) is None


def test_nothing_is_divided_by_zero() -> None:
    assert stats.ratio({0: 4.0}, {0: 0.0}) is None


def test_bucket_holds_latencies_from_its_floor_to_the_next() -> None:
    for ns in (1, 2, 999, 1024, 5_000_000):
        index = stats.bucket(ns)
        assert stats.bucket_floor(index) <= ns * (1 + 1e-9)
        assert ns < stats.bucket_floor(index + 1) * (1 + 1e-9)


def test_histogram_counts_every_latency() -> None:
    counts = stats.histogram([1000, 1000, 1001, 64000])
    assert sum(counts.values()) == 4
    assert counts[str(math.floor(math.log2(64000) * 4))] == 1


def test_quantiles_are_microseconds() -> None:
    assert stats.quantiles([1000] * 99 + [9000])["p50"] == 1.0
    assert stats.quantiles([1000] * 99 + [9000])["max"] == 9.0
