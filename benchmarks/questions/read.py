"""How fast is a large file of a layer read from its beginning to its end?

256 MiB in blocks of 128 KiB. cold: a fresh mount, all caches dropped; warm: once more, from the page cache. In images
(zstd, blocks of 128 KiB) there are two such files: data=random, which is stored as it is, and data=text, which is
stored in a third of its size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import caches
from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite

FILE = b"256m/f000000\0"


class Read:
    """read in a loop; one warm-up pass before the warm one, because the first fills the cache."""

    name = "read"
    rounds = 1.0

    def cases(self, scale: Scale) -> list[Case]:
        packed = [Case("mixed.sqfs", 10, (("data", kind),)) for kind in ("random", "text")]
        return [Case("big", 10), *([] if scale is Scale.QUICK else packed)]

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        with tempfile.NamedTemporaryFile() as name, site.mounted(layers):
            name.write(b"%s/f000000\0" % str(case.get("data")).encode() if case.images else FILE)
            name.flush()
            Path(name.name).chmod(0o644)
            state = site.cold()
            for measure in (f"sequential.{state}", "sequential.warm"):
                before = caches.cpu_time(site.pids)
                done = site.run("sequential", Path(name.name))
                used = caches.cpu_time(site.pids) - before
                yield Value(measure, done.rate, "MB/s", done.times, done.others(used))
                if site.pids:
                    yield Value(f"{measure}.server-cpu", used / max(len(done.times), 1) / 1000)


QUESTION = Read()
