"""How long does `find -printf %s` take over several hundred Debian packages?

The host's find, 54,000 entries. cold: a fresh mount, all caches dropped; warm: once more.
"""

from __future__ import annotations

from benchmarks.questions.programs import Program, ProgramQuestion


class Find(ProgramQuestion):
    """One walk by a program that everybody has."""

    name = "real_find"
    tree = "real"
    rounds = 0.6
    writes = False
    programs = (Program("find", "find {mnt} -printf '%s\\\\n'"),)


QUESTION = Find()
