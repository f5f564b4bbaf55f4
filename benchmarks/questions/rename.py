"""What does it cost to rename a file that lives in a layer?

All 10,000 files get another name in the same directory: a copy-up and a whiteout each. Caches dropped before.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite
from benchmarks.questions.passes import changed, standard_cases


class Rename:
    """rename of every file to its name with a tilde."""

    name = "rename"
    rounds = 1.0

    def cases(self, scale: Scale) -> list[Case]:
        return [] if scale is Scale.QUICK else standard_cases(scale, writes=True)[:2]

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        yield from changed(site, layers, "rename", layers.present)


QUESTION = Rename()
