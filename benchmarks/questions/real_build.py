"""How long does a C build of 200 files take?

make -j2 with the host's compiler; sources, objects and the archive are on the mount. Caches dropped before.
"""

from __future__ import annotations

from benchmarks.model import Case, Scale
from benchmarks.questions.passes import written_cases
from benchmarks.questions.programs import Program, ProgramQuestion


class Build(ProgramQuestion):
    """Reads headers again and again, writes many small files."""

    name = "real_build"
    tree = "csrc"
    rounds = 0.6
    writes = True
    programs = (Program("make", "make -j2 -C {mnt}", once=True),)

    def cases(self, scale: Scale) -> list[Case]:
        return written_cases(self.tree, scale)


QUESTION = Build()
