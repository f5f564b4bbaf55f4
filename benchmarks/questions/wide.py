"""What does a lookup cost in a directory of 100, 10,000 or 100,000 entries?

One directory spread over 10 layers. list: opendir to closedir, for each entry; stat and absent: 1,000 names drawn
evenly from the whole directory (100 in the smallest). cold: a fresh mount, caches dropped.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite
from benchmarks.questions.passes import one_pass

SIZES = {Scale.QUICK: (), Scale.NORMAL: (100, 10_000), Scale.FULL: (100, 10_000, 100_000)}
ASKED = 1000


class Wide:
    """Three mounts for each sample: list, stat and absent each start cold."""

    name = "wide"
    rounds = 0.6

    def cases(self, scale: Scale) -> list[Case]:
        return [Case(f"wide-{size}", 10) for size in SIZES[scale]]

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        for op, names in (("list", [b"d0000"]), ("stat", drawn(layers.present)), ("absent", drawn(layers.absent))):
            with tempfile.NamedTemporaryFile() as listing, site.mounted(layers):
                listing.write(b"".join(name + b"\0" for name in names))
                listing.flush()
                Path(listing.name).chmod(0o644)
                yield from one_pass(site, op, Path(listing.name), f"{op}.{site.cold()}")
                yield from one_pass(site, op, Path(listing.name), f"{op}.warm")


def drawn(names: Path) -> Sequence[bytes]:
    """Return about 1,000 of the names, evenly spread, in an order that is not the directory's."""
    everything = names.read_bytes().split(b"\0")[:-1]
    some = everything[:: max(1, len(everything) // ASKED)]
    return [*some[1::2], *some[::2]]


QUESTION = Wide()
