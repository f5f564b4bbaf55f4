"""Reading many layers' directories at once: cold, that is waiting for the disk, not computing.

The jobs touch descriptors only. The caller works along, and nothing else runs meanwhile: the union stays atomic.
"""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

HELPERS = 7  # guessed: beside the caller; a disk's queue is deeper, but each takes the interpreter in turn
COLD = 0.0002  # seconds for one directory; quicker ones are in memory, where threads only get in each other's way

Job = Callable[[], Any]


class Readers:
    """Runs the jobs of one listing, by itself as long as they are quick, with helpers once the disk makes it wait."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(HELPERS, thread_name_prefix="layerfs-list")

    def together(self, jobs: Iterable[Job]) -> list[Any]:
        """Run all jobs and return their results in order; the first exception is raised once all are over."""
        waiting = list(jobs)
        results: list[Any] = [None] * len(waiting)
        for index, job in enumerate(waiting):
            begin = time.perf_counter()
            results[index] = job()
            left = len(waiting) - index - 1
            if left > 2 and time.perf_counter() - begin > COLD:
                self._share(waiting, results, index + 1)
                break
        return results

    def _share(self, jobs: list[Job], results: list[Any], start: int) -> None:
        """Let helpers and the caller take the remaining jobs one by one."""
        todo = iter(range(start, len(jobs)))

        def work() -> None:
            for index in todo:  # next() of a range iterator is atomic
                results[index] = jobs[index]()

        helpers = [self._pool.submit(work) for _ in range(min(HELPERS, len(jobs) - start - 1))]
        failures: list[BaseException | None] = []
        try:
            work()
        except OSError as error:
            failures.append(error)
        failures += [helper.exception() for helper in helpers]
        for failure in failures:
            if failure is not None:
                raise failure
