"""How much memory does a server need after mount, for each inode that the kernel holds, and is it given back?

mounted: resident after the mount has answered. per-inode: growth while 10,000 files are held, by each. kept: what is
still there, of that growth, after the kernel forgot them all. descriptors: open files of the servers while holding.
On images, of all servers together: walked, after a cold walk; read, after every file was read to its end as well (in
the tree mixed, two of 256 MiB among them); read.pss: the same with pages that processes share divided between them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from benchmarks import caches
from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite, pss, rss


class Memory:
    """VmRSS and Pss from /proc. Drivers of the kernel have no server and no line here."""

    name = "memory"
    rounds = 0.5

    def cases(self, scale: Scale) -> list[Case]:
        packed = [] if scale is Scale.QUICK else [Case("mixed.sqfs", 10), Case("shared.sqfs", 10)]
        return [Case("own", 10), *packed]

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        with site.mounted(layers):
            if site.pids:
                caches.settle(site.pids)
                yield from used(site, layers) if case.images else held(site, layers)


def held(site: MountedSite, layers: BuiltTree) -> Iterator[Value]:
    """Yield what inodes cost."""
    before = rss(site.pids)
    yield Value("mounted", before / 1e6, "MB")
    inodes = site.run("walk", layers.present).count
    holding = rss(site.pids)
    yield Value("per-inode", (holding - before) / inodes, "B")
    yield Value("descriptors", descriptors(site.pids), "1")
    if site.cold() == "cold":
        yield Value("kept", (rss(site.pids) - before) / inodes, "B")


def used(site: MountedSite, layers: BuiltTree) -> Iterator[Value]:
    """Yield what the servers of images hold after work."""
    yield Value("mounted", rss(site.pids) / 1e6, "MB")
    site.cold()
    for op, measure in (("walk", "walked"), ("open", "read")):
        site.run(op, layers.present)
        site.find_servers()  # one that was started meanwhile counts
        caches.settle(site.pids)
        yield Value(measure, rss(site.pids) / 1e6, "MB")
    yield Value("read.pss", pss(site.pids) / 1e6, "MB")


def descriptors(pids: list[int]) -> int:
    """Count the open descriptors of `pids`."""
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)


QUESTION = Memory()
