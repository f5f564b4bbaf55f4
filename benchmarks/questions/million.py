"""What do memory and descriptors come to after a million inodes?

A tree of 1,000,000 empty files in 1,000 directories over 10 layers is walked once (warm or cold does not matter here:
the kernel holds what fits). after: resident memory of the servers; descriptors: their open files; forgotten: resident
memory after the caches were dropped; walk: time for each entry.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import caches
from benchmarks.model import Case, Layers, Scale, Value
from benchmarks.place import Place, rss
from benchmarks.questions.memory import descriptors


class Million:
    """One walk of a very large tree."""

    name = "million"
    rounds = 0.2

    def cases(self, scale: Scale) -> list[Case]:
        return [Case("million", 10)] if scale is Scale.FULL else []

    def sample(self, place: Place, layers: Layers, case: Case) -> Iterator[Value]:
        with place.mounted(layers):
            state = place.cold()
            done = place.run("walk", layers.present)
            yield Value(f"walk.{state}", done.us_each, times=done.times)
            if not place.pids:
                return
            caches.settle(place.pids)
            yield Value("after", rss(place.pids) / 1e6, "MB")
            yield Value("descriptors", descriptors(place.pids), "1")
            if place.cold() == "cold":
                yield Value("forgotten", rss(place.pids) / 1e6, "MB")


QUESTION = Million()
