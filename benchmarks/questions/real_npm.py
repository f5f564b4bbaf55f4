"""How long does `npm ci` of some hundred packages take into the mount?

The host's npm, everything in its cache outside of the mount, no network; scripts of the packages are left out. Caches
dropped before.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator

from benchmarks.model import BenchError, BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite
from benchmarks.questions.programs import Program, ProgramQuestion, run
from benchmarks.trees import node


class Npm(ProgramQuestion):
    """Some ten thousand small files, made by several threads at once."""

    name = "real_npm"
    tree = "npm"
    rounds = 0.4
    writes = True

    def cases(self, scale: Scale) -> list[Case]:
        return [Case(self.tree, 10, writes=True)] if scale is Scale.FULL else []

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        if not shutil.which("npm"):
            raise BenchError("npm is not installed")
        command = f"{shlex.join(node.words(site.cache))} --offline --prefix {{mnt}}/project"
        with site.mounted(layers):
            yield Value(f"ci.{site.cold()}", run(site, Program("ci", command)), "ms")


QUESTION = Npm()
