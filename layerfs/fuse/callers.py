"""The caller of a request: what the request says of it, and what only /proc knows."""

from typing import TYPE_CHECKING, Protocol

from layerfs.sys.later import later
from layerfs.sys.process_id import names_alike
from layerfs.union.setid import Who

if TYPE_CHECKING:
    from layerfs.union import mutate
else:
    (mutate,) = later("layerfs.union", "mutate")


class Client(Protocol):
    """Who makes a request: pyfuse3's RequestContext, or what the prelude reads."""

    @property
    def uid(self) -> int:
        """The user."""

    @property
    def gid(self) -> int:
        """The group."""

    @property
    def pid(self) -> int:
        """The thread; 0 if it is in a pid namespace that we do not see."""

    @property
    def umask(self) -> int:
        """The bits that a new object is not to have."""


def caller_of(ctx: Client) -> "mutate.Caller":
    """Return the ids that new objects get."""
    return mutate.Caller(ctx.uid, ctx.gid, ctx.umask)


def who_is(ctx: Client, gid: int) -> Who:
    """Return what a caller is to a file of this group. FUSE names no capabilities: root has CAP_FSETID, nobody else."""
    if ctx.uid == 0:
        return Who.PRIVILEGED
    return Who.MEMBER if gid == ctx.gid or gid in _groups(ctx.pid) else Who.OUTSIDER


def _groups(pid: int) -> list[int]:
    """Return the supplementary groups of a process; none if it is gone, or in a pid namespace that we do not see."""
    if not names_alike():
        return []
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            lines = status.read().splitlines()
    except OSError:
        return []
    return [int(word) for line in lines if line.startswith(b"Groups:") for word in line.split()[1:]]
