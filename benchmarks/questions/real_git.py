"""How long does `git status` take in a repository of 20,000 files?

The host's git; nothing has changed. cold: a fresh mount, all caches dropped; warm: once more.
"""

from __future__ import annotations

from benchmarks.questions.programs import Program, ProgramQuestion

SETTINGS = ("-c core.checkStat=minimal", "-c core.trustctime=false", "-c safe.directory='*'")


class Git(ProgramQuestion):
    """Stats every file, lists every directory, looks for .gitignore in each."""

    name = "real_git"
    tree = "repo"
    rounds = 0.6
    writes = False
    programs = (Program("status", f"git {' '.join(SETTINGS)} -C {{mnt}} status"),)


QUESTION = Git()
