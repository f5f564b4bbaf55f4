"""Do two processes that read at once get more done than one?

stat, absent and open (with read and close) of 10,000 names, cold. one: all by one process; two: by two that begin
together, half of the directories each. The value is the time until the last has ended, for each name of both.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite

OPS = ("stat", "absent", "open")


class Readers:
    """A mount for each value. What two get beyond one is bounded by the CPUs, which the server needs as well."""

    name = "readers"
    rounds = 1.0

    def cases(self, scale: Scale) -> list[Case]:
        return [] if scale is Scale.QUICK else [Case("own", 10)]

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        for op in OPS:
            names = (layers.absent if op == "absent" else layers.present).read_bytes().split(b"\0")[:-1]
            middle = len(names) // 2
            for measure, parts in (("one", [names]), ("two", [names[:middle], names[middle:]])):
                with site.mounted(layers):
                    state = site.cold()
                    yield Value(f"{op}.{measure}.{state}", together(site, op, parts) / len(names) / 1000)


def together(site: MountedSite, op: str, parts: Sequence[Sequence[bytes]]) -> float:
    """Run a loop over each part, all at once; return the time of the slowest [ns]."""
    with tempfile.TemporaryDirectory(prefix="readers-") as scratch:
        Path(scratch).chmod(0o755)
        listings = [Path(scratch, f"names{index}") for index in range(len(parts))]
        for listing, part in zip(listings, parts, strict=True):
            listing.write_bytes(b"".join(name + b"\0" for name in part))
        return max(sum(times) for times in site.probe.together(op, site.mnt, listings))


QUESTION = Readers()
