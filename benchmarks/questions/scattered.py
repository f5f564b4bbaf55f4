"""What does it cost to read 4 KiB at a random place of a large file of a layer?

5,000 reads in 256 MiB, the kernel told that they are random. cold: caches dropped; warm: the same sites once more.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite
from benchmarks.questions.read import FILE

READS = 5000


class Scattered:
    """pread of 4 KiB."""

    name = "scattered"
    rounds = 1.0

    def cases(self, scale: Scale) -> list[Case]:
        return [] if scale is Scale.QUICK else [Case("big", 10)]

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        with tempfile.NamedTemporaryFile() as name, site.mounted(layers):
            name.write(FILE)
            name.flush()
            Path(name.name).chmod(0o644)
            state = site.cold()
            for measure in (f"scattered.{state}", "scattered.warm"):
                done = site.run("scattered", Path(name.name), READS)
                yield Value(measure, done.total_ns / READS / 1000, "us", done.times)


QUESTION = Scattered()
