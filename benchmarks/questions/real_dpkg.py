"""How long does `dpkg -i` take for the packages that `apt-get install` would hand it, in a chroot of the mount?

A small Debian in the lowest layer; Python, make, less, file and what they need. dpkg alone, which waits for the disk
more often than apt lets it. Caches dropped before.
"""

from __future__ import annotations

from benchmarks.model import Case, Scale
from benchmarks.questions.programs import Program, ProgramQuestion

# In the order of their names, not of what they need first: dpkg is told not to mind, and sets them up in the right one.
INSTALL = "dpkg --force-depends -i /debs/*.deb"


class Dpkg(ProgramQuestion):
    """Unpack, fsync, rename; scripts of the packages."""

    name = "real_dpkg"
    tree = "debian"
    rounds = 0.4
    writes = True
    programs = (Program("dpkg", INSTALL, inside=True, once=True),)

    def cases(self, scale: Scale) -> list[Case]:
        return [] if scale is Scale.QUICK else [Case(self.tree, 10, writes=True)]


QUESTION = Dpkg()
