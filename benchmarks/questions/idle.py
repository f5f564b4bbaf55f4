"""What does a mount cost that nobody uses?

CPU time of its servers for each second, in per mille of one CPU, and how often they wake up, over 3 seconds after work
(a walk) and a pause.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks import caches
from benchmarks.model import Case, Layers, Scale, Value
from benchmarks.place import Place, task_sum

WATCHED = 3.0  # seconds
PAUSE = 1.0  # seconds after the last request


class Idle:
    """From /proc/PID/task: schedstat [ns] and voluntary_ctxt_switches."""

    name = "idle"
    rounds = 0.5

    def cases(self, scale: Scale) -> list[Case]:
        return [Case("own", 10)]

    def sample(self, place: Place, layers: Layers, case: Case) -> Iterator[Value]:
        with place.mounted(layers):
            place.run("walk", layers.present)
            time.sleep(PAUSE)
            cpu, woken = caches.cpu_time(place.pids), task_sum(place.pids, "voluntary_ctxt_switches:")
            time.sleep(WATCHED)
            yield Value("cpu", (caches.cpu_time(place.pids) - cpu) / 1e6 / WATCHED, "per mille")
            wakes = task_sum(place.pids, "voluntary_ctxt_switches:") - woken
            yield Value("wake-ups", wakes / WATCHED, "per second")


QUESTION = Idle()
