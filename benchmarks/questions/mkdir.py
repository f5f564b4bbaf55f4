"""What does it cost to make a directory beside files of the layers?

10,000 new names, 50 in each of 200 directories that exist only in the layers; caches dropped before.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite
from benchmarks.questions.passes import changed, standard_cases


class MakeDirectory:
    """mkdir; the first in each directory copies the directory up."""

    name = "mkdir"
    rounds = 1.0

    def cases(self, scale: Scale) -> list[Case]:
        return [] if scale is Scale.QUICK else standard_cases(scale, writes=True)[:2]

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        yield from changed(site, layers, "mkdir", layers.absent)


QUESTION = MakeDirectory()
