"""How long does a warm `find` take in one directory of 5,000 or 10,000 names, and over 10,000 names in 200 directories?

The directory is spread over all layers; of the 200, each is in one. cold: a fresh mount, all caches dropped; warm: the
median of nine more. `find` asks for nothing but names and types.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.model import BenchError, BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite

WARM = 9


class WarmFind:
    """The host's find, started by the probe; it writes what it finds to /dev/null."""

    name = "find"
    rounds = 1.0

    def cases(self, scale: Scale) -> list[Case]:
        return [] if scale is Scale.QUICK else [Case("wide-5000", 10), Case("wide-10000", 10), Case("own", 10)]

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        with site.mounted(layers):
            yield Value(f"find.{site.cold()}", find(site), "ms")
            yield Value("find.warm", statistics.median(find(site) for _ in range(WARM)), "ms")


def find(site: MountedSite) -> float:
    """Run find over the mount; return the time [ms]."""
    _, [done] = site.probe.start([(["/usr/bin/find", str(site.mnt), "-fprint", "/dev/null"], None)])
    if done.status:
        raise BenchError(f"find ended with status {done.status}: {done.complaints}")
    return done.returned / 1e6


QUESTION = WarmFind()
