"""How fast is a large new file written from its beginning to its end?

256 MiB in blocks of 128 KiB, each to a fresh mount after all caches were dropped. closed: until close(2) has returned,
as cp and tar write, the bytes are then in the page cache of the upper's filesystem; synced: with fsync(2) before that,
which the disk bounds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import caches
from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite

SIZE = 256 << 20
PASSES = (("closed", "write"), ("synced", "write-sync"))


class Write:
    """write in a loop."""

    name = "write"
    rounds = 1.0

    def cases(self, scale: Scale) -> list[Case]:
        return [] if scale is Scale.QUICK else [Case("own", 10, writes=True)]

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        for measure, op in PASSES:
            with tempfile.NamedTemporaryFile() as name, site.mounted(layers):
                name.write(measure.encode() + b"\0")
                name.flush()
                Path(name.name).chmod(0o644)
                state = site.cold()
                before = caches.cpu_time(site.pids)
                done = site.run(op, Path(name.name), SIZE)
                used = caches.cpu_time(site.pids) - before
                yield Value(f"{measure}.{state}", done.rate, "MB/s", done.times, done.others(used))
                if site.pids:
                    yield Value(f"{measure}.{state}.server-cpu", used / max(len(done.times), 1) / 1000)


QUESTION = Write()
