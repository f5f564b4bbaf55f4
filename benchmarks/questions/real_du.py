"""How long does `du -s` take over several hundred Debian packages?

The host's du, 54,000 entries. cold: a fresh mount, all caches dropped; warm: once more.
"""

from __future__ import annotations

from benchmarks.questions.programs import Program, ProgramQuestion


class Du(ProgramQuestion):
    """One walk that looks at blocks and hard links."""

    name = "real_du"
    tree = "real"
    rounds = 0.6
    writes = False
    programs = (Program("du", "du -s {mnt}"),)


QUESTION = Du()
