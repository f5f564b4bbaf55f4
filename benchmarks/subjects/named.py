"""A peer given by hand: --peer NAME=COMMAND."""

from __future__ import annotations

import os
import shlex
import shutil

from benchmarks.model import BenchError, BuiltTree, Site
from benchmarks.subjects.plain import Plain

HELP = "NAME=COMMAND, where COMMAND holds {lowers} (colon-separated, top first), {upper}, {work} and {mountpoint}"


class NamedPeer(Plain):
    """A command that mounts a stack and returns when it answers; umount(8) must take it down."""

    def __init__(self, definition: str) -> None:
        name, equals, command = definition.partition("=")
        if not equals or not name or "{mountpoint}" not in command:
            raise BenchError(f"--peer wants {HELP}")
        self.name = name
        self.about = command
        self.words = shlex.split(command)

    def missing(self) -> str | None:
        """Need the first word of the command."""
        return None if shutil.which(self.words[0]) else f"{self.words[0]} is not found"

    def version(self) -> str:
        """Nobody knows."""
        return "given by hand"

    def mount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        """Fill in the command; it is started without a shell."""
        paths = {
            "lowers": ":".join(map(str, layers.lowers)),
            "upper": str(site.upper),
            "work": str(site.work),
            "mountpoint": str(site.mnt),
        }
        argv = list(self.words)
        for key, value in paths.items():
            argv = [word.replace(f"{{{key}}}", value) for word in argv]
        return [os.path.realpath(shutil.which(argv[0]) or argv[0]), *argv[1:]]
