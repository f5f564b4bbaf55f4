"""How long do 10,000 transactions of pgbench take in a database on the mount?

The host's PostgreSQL with its defaults, so each commit waits for the disk; two clients, 75 MB of tables in the lowest
layer, which the first write to each copies up. The server starts before the clock does. Caches dropped before that.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.model import BenchError, BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite
from benchmarks.trees import database

CLIENTS = 2
EACH = 5000  # transactions of a client


class Pgbench:
    """Small writes in the middle of large files, and fsync."""

    name = "real_pgbench"
    rounds = 0.4

    def cases(self, scale: Scale) -> list[Case]:
        return [Case("database", 10, writes=True)] if scale is Scale.FULL else []

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        with site.mounted(layers):
            state = site.cold()
            with database.running(site.mnt / "data") as sockets:
                words = database.pgbench(sockets, "-n", "-c", str(CLIENTS), "-j", str(CLIENTS), "-t", str(EACH))
                _, [done] = site.probe.start([(words, None)])
            if done.status:
                raise BenchError(f"pgbench ended with status {done.status}: {done.complaints}")
            yield Value(f"pgbench.{state}", done.returned / 1e6, "ms")


QUESTION = Pgbench()
