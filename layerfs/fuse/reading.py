"""Reads the shares of a directory natively, many at one call; what is not plain is left to the union.

In a walk, threads without the interpreter look at the next directories meanwhile, once a disk had to be waited for.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from layerfs.batch.directories import Ahead, Listed, read
from layerfs.union.layers import DirTree, Kind
from layerfs.union.reading import Outcome, Reading

_KINDS: Final = (Kind.OTHER, Kind.DIRECTORY)  # as the batch has them


class NativeReader:
    """Reads for one union."""

    def __init__(self) -> None:
        self._ahead: Ahead | None = None

    @property
    def looks_ahead(self) -> bool:
        """Whether a disk was waited for, so that a walk is worth following."""
        return self._ahead is not None

    def read(self, jobs: Sequence[Reading]) -> list[Outcome]:
        """Run jobs in order; those for directories of the host are done together."""
        together = [job.scan and type(job.tree) is DirTree for job in jobs]
        found, waited = read([(job.at, job.name) for job, is_one in zip(jobs, together, strict=True) if is_one])
        if waited:
            if self._ahead is None:
                self._ahead = Ahead()
            self._ahead.waited()
        listed = iter(found)
        return [_outcome(job, next(listed)) if is_one else job() for job, is_one in zip(jobs, together, strict=True)]

    def look_ahead(self, directories: Iterable[tuple[int, bytes]]) -> None:
        """Have directories looked at, each by a path below an open root that stays open."""
        if self._ahead is not None:
            for root, path in directories:
                if not self._ahead.ask(root, path):
                    return

    def close(self) -> None:
        """End the threads."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None


def _outcome(job: Reading, found: Listed) -> Outcome:
    if found.fd < 0:
        return job()  # it knows what else to try
    entries = None if found.names is None else list(zip(found.names, map(_KINDS.__getitem__, found.kinds), strict=True))
    return job.go_on(found.fd, has_marks=found.has_xattrs, entries=entries)
