"""How long does a shell take to start?

sh -c : and bash -c : in a chroot of the mount. cold: a fresh mount, all caches dropped; warm: once more.
"""

from __future__ import annotations

from benchmarks.questions.programs import Program, ProgramQuestion


class Shell(ProgramQuestion):
    """The first thing that most containers do."""

    name = "real_shell"
    tree = "real"
    rounds = 1.0
    writes = False
    programs = (
        Program("sh", ":", inside=True),
        Program("bash", "exec bash -c :", inside=True),
    )


QUESTION = Shell()
