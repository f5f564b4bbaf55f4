"""How much memory does a server need after mount, for each inode that the kernel holds, and is it given back?

mounted: resident after the mount has answered. per-inode: growth while 10,000 files are held, by each. kept: what is
still there, of that growth, after the kernel forgot them all. descriptors: open files of the servers while holding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from benchmarks import caches
from benchmarks.model import Case, Layers, Scale, Value
from benchmarks.place import Place, rss


class Memory:
    """VmRSS from /proc. Drivers of the kernel have no server and no line here."""

    name = "memory"
    rounds = 0.5

    def cases(self, scale: Scale) -> list[Case]:
        return [Case("own", 10)]

    def sample(self, place: Place, layers: Layers, case: Case) -> Iterator[Value]:
        with place.mounted(layers):
            if not place.pids:
                return
            caches.settle(place.pids)
            before = rss(place.pids)
            yield Value("mounted", before / 1e6, "MB")
            inodes = place.run("walk", layers.present).count
            held = rss(place.pids)
            yield Value("per-inode", (held - before) / inodes, "B")
            yield Value("descriptors", descriptors(place.pids), "1")
            if place.cold() == "cold":
                yield Value("kept", (rss(place.pids) - before) / inodes, "B")


def descriptors(pids: list[int]) -> int:
    """Count the open descriptors of `pids`."""
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)


QUESTION = Memory()
