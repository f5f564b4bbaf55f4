"""How long does it take to unpack the tar archive of a root filesystem into the mount?

The host's tar, some 8,000 files of a small Debian, into the upper. Caches dropped before.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite
from benchmarks.questions.passes import written_cases
from benchmarks.questions.programs import Program, ProgramQuestion, run
from benchmarks.trees.debian import archive


class Untar(ProgramQuestion):
    """Create, write, chmod, chown, utimens, link, symlink: all of it into the upper."""

    name = "real_untar"
    tree = "tiny"
    rounds = 0.6
    writes = True

    def cases(self, scale: Scale) -> list[Case]:
        return written_cases(self.tree, scale)

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        tar = shlex.quote(str(archive(site.cache)))
        command = f"mkdir {{mnt}}/rootfs && tar -x -p -f {tar} -C {{mnt}}/rootfs"
        with site.mounted(layers):
            yield Value(f"untar.{site.cold()}", run(site, Program("untar", command)), "ms")


QUESTION = Untar()
