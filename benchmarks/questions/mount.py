"""How long does a mount take, by number of layers, until the command returns and until the mountpoint answers?

returned: from the start of the mount command to its end; answered: to the first listing of the root. unmount: from the
start of the unmount command until the last server has ended. Caches are warm: this is starting containers one by one.
A stack of images counts from the first image's server or loop device, which are started one after another. Their root
lists 200 directories, which an overlay looks up in ten images each; that of the tree deep lists one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite
from benchmarks.questions.passes import packed_cases

COUNTS = {Scale.QUICK: (10,), Scale.NORMAL: (10, 1, 40), Scale.FULL: (10, 1, 2, 40, 128)}
PACKED = {Scale.QUICK: (), Scale.NORMAL: (1, 40), Scale.FULL: (1, 2, 40)}


class Mount:
    """The commands are started by the probe, so that Python's own process start is not in it."""

    name = "mount"
    rounds = 2.0

    def cases(self, scale: Scale) -> list[Case]:
        plain = [Case("own", count) for count in COUNTS[scale]]
        deep = [] if scale is Scale.QUICK else [Case("deep.sqfs", 10)]
        return [*plain, *packed_cases(scale), *deep, *(Case("own.sqfs", count) for count in PACKED[scale])]

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        with site.mounted(layers):
            pass  # warm-up: programs and directories are in the page cache now
        started = site.mount(layers)
        yield Value("returned", started.returned / 1e6, "ms")
        yield Value("answered", started.answered / 1e6, "ms")
        begun = time.perf_counter()
        site.unmount(layers)
        yield Value("unmount", (time.perf_counter() - begun) * 1000, "ms")


QUESTION = Mount()
