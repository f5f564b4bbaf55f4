"""What does it cost to write a file under another name and rename it to its own, as whoever wants to lose none does?

10,000 files of 4 KiB. new: to names that do not exist yet; lower: to those of files of the layers. Caches dropped
before.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite
from benchmarks.questions.passes import one_pass


class Replace:
    """open(O_CREAT|O_EXCL), write 4 KiB, close, rename; without fsync."""

    name = "replace"
    rounds = 1.0

    def cases(self, scale: Scale) -> list[Case]:
        return [] if scale is Scale.QUICK else [Case("own", 10, writes=True)]

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        for measure, names in (("new", layers.absent), ("lower", layers.present)):
            with site.mounted(layers):
                state = site.cold()
                yield from one_pass(site, "replace", names, f"{measure}.{state}")


QUESTION = Replace()
