"""How long does `apt-get install` take in a chroot of the mount?

A small Debian in the lowest layer; Python, make, less and file are installed from packages that lie in it. Caches
dropped before.
"""

from __future__ import annotations

from benchmarks.model import Case, Scale
from benchmarks.questions.programs import Program, ProgramQuestion

SETTINGS = "-o Dpkg::Use-Pty=0 -o APT::Sandbox::User="  # no /dev/pts and no user _apt beside the archives


class Apt(ProgramQuestion):
    """dpkg: unpack, fsync, rename, hard links, diversions; scripts of the packages."""

    name = "real_apt"
    tree = "debian"
    rounds = 0.4
    writes = True
    programs = (Program("install", f"apt-get -q -y {SETTINGS} install /debs/*.deb", inside=True, once=True),)

    def cases(self, scale: Scale) -> list[Case]:
        return [] if scale is Scale.QUICK else [Case(self.tree, 10, writes=True)]


QUESTION = Apt()
