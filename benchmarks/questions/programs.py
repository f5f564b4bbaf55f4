"""Whole programs on a mount, timed from start to exit, cold and then warm: the shape of questions about real work."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.model import BenchError, BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite

LAYERS = {Scale.QUICK: (), Scale.NORMAL: (40,), Scale.FULL: (40, 10, 1)}
ENVIRONMENT = (
    "/usr/bin/env",
    "-i",
    "PATH=/usr/bin:/usr/sbin:/bin:/sbin",
    "HOME=/tmp",
    "LANG=C",
    "MPLCONFIGDIR=/var/cache/mpl",
    "DEBIAN_FRONTEND=noninteractive",
    "GIT_CONFIG_NOSYSTEM=1",
    "PYTHONDONTWRITEBYTECODE=1",
)


@dataclass(frozen=True, slots=True)
class Program:
    """A shell command. `{mnt}` is the mountpoint; `inside` runs it in a chroot there; `once` has no warm repetition."""

    measure: str
    command: str
    inside: bool = False
    once: bool = False

    def argv(self, mnt: Path) -> list[str]:
        """Return the words; output is thrown away."""
        if self.inside:
            return [*ENVIRONMENT, "/usr/sbin/chroot", str(mnt), "/bin/sh", "-c", f"{{ {self.command}\n}} >/dev/null"]
        return [*ENVIRONMENT, "/bin/sh", "-c", f"{{ {self.command.format(mnt=shlex.quote(str(mnt)))}\n}} >/dev/null"]


def run(site: MountedSite, program: Program) -> float:
    """Run a program to its end; return the time [ms]."""
    _, [done] = site.probe.start([(program.argv(site.mnt), None)])
    if done.status:
        raise BenchError(f"{program.measure} ended with status {done.status}: {done.complaints}")
    return done.returned / 1e6


@contextlib.contextmanager
def furnished(site: MountedSite, inside: bool, writes: bool) -> Iterator[None]:
    """Give a chroot the host's /dev (some subjects mount nodev), and a case that only reads a /tmp of its own."""
    wanted = [["--bind", "/dev", str(site.mnt / "dev")]] if inside else []
    if inside and not writes:
        wanted.append(["-t", "tmpfs", "tmpfs", str(site.mnt / "tmp")])
    with contextlib.ExitStack() as stack:
        for words in wanted:
            subprocess.run(["mount", *words], check=True)
            stack.callback(subprocess.run, ["umount", words[-1]], check=True)
        yield


class ProgramQuestion:
    """A question answered by running programs; a subclass names them. Each program has a mount of its own."""

    name = ""
    tree = "real"
    rounds = 0.6
    writes = False
    programs: Sequence[Program] = ()

    def cases(self, scale: Scale) -> list[Case]:
        """Ask at 40 layers first."""
        return [Case(self.tree, count, writes=self.writes) for count in LAYERS[scale]]

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        """Time each program cold, and warm if it can be repeated."""
        for program in self.programs:
            with site.mounted(layers), furnished(site, program.inside, case.writes):
                yield Value(f"{program.measure}.{site.cold()}", run(site, program), "ms")
                if not program.once:
                    yield Value(f"{program.measure}.warm", run(site, program), "ms")
