"""The floor: a bind mount of the merged tree, no layers at all."""

from __future__ import annotations

import subprocess

from benchmarks.model import BuiltTree, Case, Site
from benchmarks.subjects.plain import Plain


class Bind(Plain):
    """mount --bind of a flat copy; for cases that write, of a private copy made beforehand."""

    name = "bind"
    about = "bind mount of the merged tree: the floor, what the host's filesystem costs"

    def prepare(self, layers: BuiltTree, site: Site, case: Case) -> None:
        """Copy the tree if it will be changed."""
        if case.writes:
            subprocess.run(["cp", "-a", "--", str(layers.flat), str(site.home / "flat")], check=True)

    def mount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        """Bind the private copy if there is one."""
        private = site.home / "flat"
        return ["/usr/bin/mount", "--bind", str(private if private.exists() else layers.flat), str(site.mnt)]
