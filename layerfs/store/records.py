"""Named records in the ledger (images, pins of remote layers), and what they hold.

A record holds digests of blobs (`sha256:...`) and snapshots (`snapshot:DRIVER/NAME`): what a record holds is not
collected. Record and holds change in one transaction.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from layerfs.store.info import NOTHING
from layerfs.value import value


@value
class Record:
    """One record: of its kind, such as `image`, there is one by that name. Times in nanoseconds since 1970."""

    kind: str
    name: str
    digest: str
    labels: Mapping[str, str] = NOTHING
    created: int = 0
    updated: int = 0


class Records(Protocol):
    """The records of a store."""

    def put(
        self, kind: str, name: str, digest: str, holds: Iterable[str], labels: Mapping[str, str] = NOTHING
    ) -> Record:
        """Make a record, or replace it with all that it holds."""

    def get(self, kind: str, name: str) -> Record | None:
        """Return a record."""

    def all(self, kind: str) -> list[Record]:
        """Return the records of a kind, by name."""

    def remove(self, kind: str, name: str) -> list[str]:
        """Remove a record; return what it held and nothing holds now. Raises NotFound."""

    def holds(self, kind: str, name: str) -> list[str]:
        """Return what a record holds."""

    def holders(self, hold: str) -> list[Record]:
        """Return the records that hold something."""
