"""What does it cost to change the mode of a file that lives in a layer?

10,000 files of 4 KiB, each copied up (a driver may leave the bytes where they are). Caches dropped before.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite
from benchmarks.questions.passes import changed, standard_cases


class Chmod:
    """chmod of every file."""

    name = "chmod"
    rounds = 1.0

    def cases(self, scale: Scale) -> list[Case]:
        return [] if scale is Scale.QUICK else standard_cases(scale, writes=True)[:2]

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        yield from changed(site, layers, "chmod", layers.present)


QUESTION = Chmod()
