"""Reads the shares of a directory natively, many at one call; what is not plain is left to the union."""

from collections.abc import Sequence
from typing import Final

from layerfs.batch.directories import Listed, read
from layerfs.union.layers import DirTree, Kind
from layerfs.union.reading import Outcome, Reading

_KINDS: Final = (Kind.OTHER, Kind.DIRECTORY)  # as the batch has them


def read_natively(jobs: Sequence[Reading]) -> list[Outcome]:
    """Run jobs in order; those for directories of the host are done together."""
    together = [job.scan and type(job.tree) is DirTree for job in jobs]
    listed = iter(read([(job.at, job.name) for job, is_one in zip(jobs, together, strict=True) if is_one]))
    return [_outcome(job, next(listed)) if is_one else job() for job, is_one in zip(jobs, together, strict=True)]


def _outcome(job: Reading, found: Listed) -> Outcome:
    if found.fd < 0:
        return job()  # it knows what else to try
    entries = None if found.names is None else list(zip(found.names, map(_KINDS.__getitem__, found.kinds), strict=True))
    return job.go_on(found.fd, has_marks=found.has_xattrs, entries=entries)
