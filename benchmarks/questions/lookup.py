"""What does it cost to ask for a name that exists, and for one that does not?

stat and absent: lstat of 10,000 names in the order of a walk. cold: a fresh mount, all caches dropped; warm: the same
names once more; again: caches dropped under the mount that has just answered (what memory pressure costs).
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite
from benchmarks.questions.passes import cold_warm, packed_cases, standard_cases

CURVE = {Scale.QUICK: (10, 40), Scale.NORMAL: (1, 10, 40), Scale.FULL: (1, 2, 10, 40, 128)}


class Lookup:
    """Two mounts for each sample, so that absent names do not profit from what stat loaded."""

    name = "lookup"
    rounds = 1.0

    def cases(self, scale: Scale) -> list[Case]:
        curve = [Case(tree, count) for tree in ("own", "shared") for count in CURVE[scale]]
        return list(dict.fromkeys([*standard_cases(scale), *packed_cases(scale), *curve]))

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        yield from cold_warm(site, layers, "stat", layers.present, again=True)
        yield from cold_warm(site, layers, "absent", layers.absent, again=True)


QUESTION = Lookup()
