"""What do memory and descriptors come to after a million inodes?

A tree of 1,000,000 empty files in 1,000 directories over 10 layers is walked once (warm or cold does not matter here:
the kernel holds what fits). after: resident memory of the servers; descriptors: their open files; forgotten: resident
memory after the caches were dropped; walk: time for each entry.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import caches
from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite, rss
from benchmarks.questions.memory import descriptors


class Million:
    """One walk of a very large tree."""

    name = "million"
    rounds = 0.2

    def cases(self, scale: Scale) -> list[Case]:
        return [Case("million", 10)] if scale is Scale.FULL else []

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        with site.mounted(layers):
            state = site.cold()
            done = site.run("walk", layers.present)
            yield Value(f"walk.{state}", done.us_each, times=done.times)
            if not site.pids:
                return
            caches.settle(site.pids)
            yield Value("after", rss(site.pids) / 1e6, "MB")
            yield Value("descriptors", descriptors(site.pids), "1")
            if site.cold() == "cold":
                yield Value("forgotten", rss(site.pids) / 1e6, "MB")


QUESTION = Million()
