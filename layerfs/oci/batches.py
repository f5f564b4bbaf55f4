"""Runs of plain entries of a layer, each written by one call of C (`layerfs.batch`); the rules see none of them.

Only what needs no rule is in a run: regular files and symlinks with nothing but a header, in one directory that is
there, under names that are free and no marks, of which all bytes are at hand. Whatever else comes ends the run, and
`apply` goes on. So the tree is the same without the C, which is there for speed alone.
"""

from typing import Protocol

from layerfs.oci.links import PendingLinks
from layerfs.oci.paths import WH, clamp
from layerfs.oci.resolve import Resolver
from layerfs.oci.tar import TarReader
from layerfs.oci.target import Limits, Outcome, WriteRun

_PLAIN = b"0\x002"  # types of regular files and symlinks
_NAME, _TYPE, _PREFIX = 100, 156, 345  # where in a header the name ends, and where others are


class Rules(Protocol):
    """What bounds a layer."""

    @property
    def limits(self) -> Limits:
        """What it may cost."""


class Runs:
    """The runs of one layer, between the entries that need rules."""

    def __init__(
        self,
        reader: TarReader,
        write: WriteRun,
        resolver: Resolver,
        links: PendingLinks,
        outcome: Outcome,
        rules: Rules,
    ) -> None:
        self._reader = reader
        self._write = write
        self._resolver = resolver
        self._links = links
        self._outcome = outcome
        self._limits = rules.limits

    def write(self) -> None:
        """Write the runs that come next."""
        while (ahead := self._reader.ahead()) is not None:
            data, at = ahead
            above = _above(data, at)
            if above is None:
                return
            path = clamp(above)
            found = self._resolver.directory(path, make=False)
            if found is None:
                return
            most = self._limits.size - self._outcome.size
            entries = self._limits.entries - self._outcome.entries
            if most < 0 or entries <= 0:
                return
            written = self._write(found[0], data, at, above, most, entries)
            if not written.headers:
                return
            self._reader.go_on(written.next)
            self._outcome.entries += len(written.headers)
            self._outcome.size += written.size
            if self._links:
                start = path + b"/" if path else path
                for header in written.headers:
                    name = data[header + len(above) : header + _NAME].partition(b"\0")[0]
                    self._links.forget(start + name)


def _above(data: bytes, at: int) -> bytes | None:
    """Return the name of the next entry without its last part; None if it is not plain."""
    if data[at + _TYPE] not in _PLAIN or (data[at + _PREFIX] and data[at + 257 : at + 263] == b"ustar\0"):
        return None
    above, slash, name = data[at : at + _NAME].partition(b"\0")[0].rpartition(b"/")
    return None if not name or WH in above or name.startswith(WH) else above + slash
