"""What does the first write to a file of a layer cost, by its size?

One byte is appended to each file: 10,000 of 4 KiB (the standard trees), 20 of 1 MiB, one of 256 MiB, one of 1 GiB.
Caches dropped before, so reading the layer is part of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite
from benchmarks.questions.passes import changed, one_pass, standard_cases


class CopyUp:
    """open(O_APPEND), write one byte, close."""

    name = "copyup"
    rounds = 1.0

    def cases(self, scale: Scale) -> list[Case]:
        cases = standard_cases(scale, writes=True)
        if scale is not Scale.QUICK:
            cases += [Case("big", 10, (("size", size),), writes=True) for size in ("1m", "256m")]
        if scale is Scale.FULL:
            cases.append(Case("huge", 10, (("size", "1g"),), writes=True))
        return cases

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        if not case.vary:
            yield from changed(site, layers, "append", layers.present)
            return
        names = [name for name in layers.present.read_bytes().split(b"\0") if name.startswith(b"%s/" % size(case))]
        with tempfile.NamedTemporaryFile() as listing, site.mounted(layers):
            listing.write(b"".join(name + b"\0" for name in names))
            listing.flush()
            Path(listing.name).chmod(0o644)
            yield from one_pass(site, "append", Path(listing.name), f"append.{site.cold()}")


def size(case: Case) -> bytes:
    """Return the directory of the tree that holds files of the case's size."""
    return str(case.get("size")).encode()


QUESTION = CopyUp()
