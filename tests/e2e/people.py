"""As whom commands run: root, a user, or a user who is root of a namespace."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.host import Person

HOLDER = "layerfs_e2e_holder"  # a word by which the process that keeps a namespace open is known


class Kind(Enum):
    """As whom a stage's commands run."""

    ROOT = "root"
    USER = "user"  # mounts with fusermount3
    USERNS = "userns"  # the same user as root of a user and mount namespace with subordinate ids


@dataclass(frozen=True)
class Insider(Person):
    """A person who is root of a namespace that a waiting process keeps open."""

    holder: int

    def command(self, command: Sequence[str | Path]) -> list[str]:
        namespace = (f"--target={self.holder}", "--user", "--mount", "--preserve-credentials")
        return super().command(["nsenter", *namespace, "--", *command])


@contextmanager
def inside(person: Person, root: Path) -> Iterator[Insider]:
    """Keep a namespace open; its holder names `root` in its arguments, so that nobody forgets it."""
    script = f"echo ready; read {HOLDER}"
    command = ["unshare", "--map-auto", "--map-root-user", "--mount", "sh", "-c", script, str(root)]
    with subprocess.Popen(person.command(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline() == b"ready\n"
        yield Insider(person.name, person.uid, person.gid, person.home, holder.pid)
