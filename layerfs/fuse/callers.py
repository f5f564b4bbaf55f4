"""The caller of a request: what the request says of it, and what only /proc knows."""

from typing import Protocol

from pyfuse3 import RequestContext

from layerfs.union.mutate import Caller
from layerfs.union.setid import Who


def caller_of(ctx: RequestContext) -> Caller:
    """Return the ids that new objects get."""
    return Caller(ctx.uid, ctx.gid, ctx.umask)


class Client(Protocol):
    """Who makes a request."""

    @property
    def uid(self) -> int: ...

    @property
    def gid(self) -> int: ...

    @property
    def pid(self) -> int: ...


def who_is(ctx: Client, gid: int) -> Who:
    """Return what a caller is to a file of this group. FUSE names no capabilities: root has CAP_FSETID, nobody else."""
    if ctx.uid == 0:
        return Who.PRIVILEGED
    return Who.MEMBER if gid == ctx.gid or gid in _groups(ctx.pid) else Who.OUTSIDER


def _groups(pid: int) -> list[int]:
    """Return the supplementary groups of a process; none if it is gone, or in a pid namespace that we do not see."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            lines = status.read().splitlines()
    except OSError:
        return []
    return [int(word) for line in lines if line.startswith(b"Groups:") for word in line.split()[1:]]
