"""What does a mount cost that lives for a moment, as that of a short container does?

whole: mount and first listing, 20 new files of 4 KiB, 20 files of the layers read, unmount: the commands and loops
alone, without what is between them. cpu: processor time of the server until then. pss: what it then holds, each shared
page divided between those that map it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks import caches
from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite, pss

FILES = 20


class Short:
    """Caches are warm. The kernel's own overlay has no server, hence neither cpu nor pss."""

    name = "short"
    rounds = 2.0

    def cases(self, scale: Scale) -> list[Case]:
        return [Case("own", 10, writes=True)]

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        with site.mounted(layers):
            pass  # warm-up: programs and directories are in the page cache now
        started = site.mount(layers)
        made = site.run("create", few(layers.absent, site.home / "absent"))
        read = site.run("open", few(layers.present, site.home / "present"))
        if site.pids:
            yield Value("cpu", caches.cpu_time(site.pids) / 1e6, "ms")
            yield Value("pss", pss(site.pids) / 1e6, "MB")
        ended = site.unmount(layers)
        whole = started.answered + made.total_ns + read.total_ns + ended.returned
        yield Value("whole", whole / 1e6, "ms")


def few(names: Path, shorter: Path) -> Path:
    """Write the first FILES names of a list into another, and return that."""
    shorter.write_bytes(b"".join(name + b"\0" for name in names.read_bytes().split(b"\0", FILES)[:FILES]))
    return shorter


QUESTION = Short()
