"""How long does it take to start 1, 16 or 64 mounts at once?

all: until the last mountpoint answers; each: the median mount; every mount has the same 10 layers and its own upper.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.model import BenchError, BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite
from benchmarks.stats import spread

COUNTS = {Scale.QUICK: (), Scale.NORMAL: (1, 16, 64), Scale.FULL: (1, 16, 64)}


class Concurrency:
    """All commands wait at one gate and start together."""

    name = "concurrency"
    rounds = 1.0

    def cases(self, scale: Scale) -> list[Case]:
        return [Case("own", 10, (("concurrency", count),)) for count in COUNTS[scale]]

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        sites = [
            MountedSite(site.subject, site.home / f"c{index}", site.cache)
            for index in range(int(case.get("concurrency")))
        ]
        for one in sites:
            one.make(site.subject.owner)
            site.subject.prepare(layers, one, case)
        up = [(site.subject.mount_command(layers, one), one.mnt) for one in sites]
        down = [(site.subject.unmount_command(layers, one), None) for one in sites]
        try:
            total, started = site.probe.start(up)
        finally:
            site.probe.start(down)
        if any(one.status for one in started):
            raise BenchError(f"{sum(one.status != 0 for one in started)} of {len(started)} mounts failed")
        yield Value("all", total / 1e6, "ms")
        yield Value("each", spread([one.answered / 1e6 for one in started]).median, "ms")


QUESTION = Concurrency()
