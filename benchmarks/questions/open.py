"""What does it cost to open, read and close a small file?

10,000 files of 4 KiB. cold: a fresh mount, all caches dropped; warm: once more, the bytes are in the page cache.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite
from benchmarks.questions.passes import cold_warm, packed_cases, standard_cases, tall_cases


class Open:
    """open, read until the end, close."""

    name = "open"
    rounds = 1.0

    def cases(self, scale: Scale) -> list[Case]:
        return [*standard_cases(scale), *tall_cases(scale), *packed_cases(scale)]

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        yield from cold_warm(site, layers, "open", layers.present)


QUESTION = Open()
