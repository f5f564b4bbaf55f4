"""Medians, spreads and ratios paired by round; plain functions over lists of numbers."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BUCKETS_PER_OCTAVE = 4


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with its quartiles, the median absolute deviation, and how many samples there were."""

    median: float
    low: float
    high: float
    mad: float
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Summarise at least one value."""
    middle = statistics.median(values)
    mad = statistics.median(abs(value - middle) for value in values)
    low, high = quantile(values, 0.25), quantile(values, 0.75)
    return Spread(middle, low, high, mad, len(values))


def quantile(values: Sequence[float], share: float) -> float:
    """Return the quantile by linear interpolation between the closest ranks."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> list[float]:
    """Return ours/theirs for each round that has both; a zero on their side gives no ratio."""
    return [ours[index] / theirs[index] for index in sorted(ours.keys() & theirs.keys()) if theirs[index]]


def ratio(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Spread | None:
    """Return the paired ratio, or None when no round has both."""
    ratios = paired(ours, theirs)
    return spread(ratios) if ratios else None


def bucket(ns: int) -> int:
    """Return the number of a latency's bucket: four to each power of two."""
    return math.floor(math.log2(max(ns, 1)) * BUCKETS_PER_OCTAVE)


def bucket_floor(index: int) -> float:
    """Return the smallest latency of a bucket [ns]."""
    return float(2 ** (index / BUCKETS_PER_OCTAVE))


def histogram(times: Sequence[int]) -> dict[str, int]:
    """Count latencies [ns] by bucket; keys are strings because JSON has no other."""
    return {str(index): count for index, count in sorted(Counter(map(bucket, times)).items())}


def quantiles(times: Sequence[int]) -> dict[str, float]:
    """Return the latencies that a reader asks for [us]."""
    ordered = sorted(times)
    return {
        name: quantile(ordered, share) / 1000
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
    }
