"""How long does it take to pack /usr/share/doc and Python's library?

The host's tar reads the mount and writes to a pipe. cold: a fresh mount, all caches dropped; warm: once more.
"""

from __future__ import annotations

from benchmarks.questions.programs import Program, ProgramQuestion


class Tar(ProgramQuestion):
    """Many small files, each read whole."""

    name = "real_tar"
    tree = "real"
    rounds = 0.6
    writes = False
    programs = (Program("tar", "tar -c -C {mnt} usr/share/doc usr/lib/python3.11 | cat"),)


QUESTION = Tar()
