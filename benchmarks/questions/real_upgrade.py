"""How long does `apt-get dist-upgrade` to the next release of Debian take in a chroot of the mount?

A small Debian in the lowest layer, with the packages and the lists of the next release. Caches dropped before.
"""

from __future__ import annotations

from benchmarks.model import Case, Scale
from benchmarks.questions.programs import Program, ProgramQuestion
from benchmarks.questions.real_apt import SETTINGS

UPGRADE = f"apt-get -q -y {SETTINGS} --no-download -o Dpkg::Options::=--force-confnew dist-upgrade"


class Upgrade(ProgramQuestion):
    """Nearly every file of the system is unpacked, replaced and removed; scripts of all packages."""

    name = "real_upgrade"
    tree = "upgrade"
    rounds = 0.2
    writes = True
    programs = (Program("upgrade", UPGRADE, inside=True, once=True),)

    def cases(self, scale: Scale) -> list[Case]:
        return [Case(self.tree, 10, writes=True)] if scale is Scale.FULL else []


QUESTION = Upgrade()
