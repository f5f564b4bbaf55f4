"""How long does `python3 -c 'import numpy, scipy.stats, matplotlib.pyplot'` take?

Python in a chroot of the mount; every path of sys.path is tried for every module, so absent names count. cold: a fresh
mount, all caches dropped; warm: once more.
"""

from __future__ import annotations

from benchmarks.questions.programs import Program, ProgramQuestion


class Import(ProgramQuestion):
    """Some 2,000 files opened, thousands of names that do not exist."""

    name = "real_import"
    tree = "real"
    rounds = 0.6
    writes = False
    programs = (Program("import", "python3 -c 'import numpy, scipy.stats, matplotlib.pyplot'", inside=True),)


QUESTION = Import()
