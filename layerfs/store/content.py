"""Blobs by digest in a store: the way in, the look-up, and what keeps them from being collected.

A digest is `sha256:` and 64 digits. A blob is collected when no record holds its digest (`layerfs.store.records`) and
nobody has it open by what `open` or `Ingest.commit` returned.
"""

from contextlib import AbstractContextManager
from typing import Protocol

from layerfs.value import value


@value
class Blob:
    """One blob that is there, whole: its digest, its size [bytes], and the path of its file, 0444."""

    digest: str
    size: int
    path: bytes


class Ingest(Protocol):
    """A blob on its way in. Left without `commit`, one whose digest was given beforehand can be resumed later."""

    offset: int
    """Bytes that are there already, from an ingest that was interrupted."""

    def write(self, data: bytes | memoryview) -> None:
        """Append data at `offset`."""

    def restart(self) -> None:
        """Throw away what is there; `offset` is 0 then."""

    def commit(self) -> tuple[Blob, int]:
        """Check digest and size, and give the blob its place; Corrupt, and nothing is kept, where they differ.

        Returns it with a descriptor for reading, which the caller closes and which keeps it from being collected. It is
        on disk.
        """


class Content(Protocol):
    """The blobs of a store; any thread and any process may use it at once."""

    def get(self, digest: str) -> Blob | None:
        """Return a blob; None if it is not there."""

    def open(self, digest: str) -> int:
        """Return a descriptor for reading a blob, which keeps it from being collected; NotFound, Corrupt."""

    def ingest(self, digest: str | None = None, size: int | None = None) -> AbstractContextManager[Ingest]:
        """Take a blob in; AlreadyExists if it is there.

        With a digest given, it waits for another ingest of the same, and goes on where an interrupted one ended.
        """

    def adopt(self, path: bytes, digest: str | None = None) -> tuple[Blob, int]:
        """Take in a file, reflinked where the filesystem can; returns as `Ingest.commit`."""

    def remove(self, digest: str) -> bool:
        """Remove a blob unless it is held or in use; tell whether it is gone."""
