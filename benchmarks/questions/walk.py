"""What does it cost to walk the whole tree and ask for every size, as `find -printf %s` does?

Time for each entry, listing included. cold: a fresh mount, all caches dropped; warm: once more.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite
from benchmarks.questions.passes import cold_warm, packed_cases, standard_cases, tall_cases


class Walk:
    """readdir and fstatat of every entry."""

    name = "walk"
    rounds = 1.0

    def cases(self, scale: Scale) -> list[Case]:
        more = [Case("shared", 40)] if scale is Scale.QUICK else []
        return [*standard_cases(scale), *tall_cases(scale), *packed_cases(scale), *more]

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        yield from cold_warm(site, layers, "walk", layers.present, again=True)


QUESTION = Walk()
