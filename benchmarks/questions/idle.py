"""What does a mount cost that nobody uses?

CPU time of its servers for each second, in per mille of one CPU, and how often they wake up, over 3 seconds after work
(a walk) and a pause.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks import caches
from benchmarks.model import BuiltTree, Case, Scale, Value
from benchmarks.mounted_site import MountedSite, task_sum

WATCHED = 3.0  # seconds
PAUSE = 1.0  # seconds after the last request


class Idle:
    """From /proc/PID/task: schedstat [ns] and voluntary_ctxt_switches."""

    name = "idle"
    rounds = 0.5

    def cases(self, scale: Scale) -> list[Case]:
        return [Case("own", 10)]

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        with site.mounted(layers):
            site.run("walk", layers.present)
            time.sleep(PAUSE)
            cpu, woken = caches.cpu_time(site.pids), task_sum(site.pids, "voluntary_ctxt_switches:")
            time.sleep(WATCHED)
            yield Value("cpu", (caches.cpu_time(site.pids) - cpu) / 1e6 / WATCHED, "per mille")
            wakes = task_sum(site.pids, "voluntary_ctxt_switches:") - woken
            yield Value("wake-ups", wakes / WATCHED, "per second")


QUESTION = Idle()
