"""What does it cost to remove a file that lives in a layer?

All 10,000 files; each leaves a whiteout. Caches dropped before.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite
from benchmarks.questions.passes import changed, standard_cases


class Unlink:
    """unlink of every file."""

    name = "unlink"
    rounds = 1.0

    def cases(self, scale: Scale) -> list[Case]:
        return standard_cases(scale, writes=True)

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        yield from changed(site, layers, "unlink", layers.present)


QUESTION = Unlink()
