"""What the ledger knows of a snapshot, in containerd's words (core/snapshots, "Info")."""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from layerfs.value import value

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class SnapshotKind(Enum):
    """What a snapshot is; the numbers are those of containerd's protocol."""

    VIEW = 1
    ACTIVE = 2
    COMMITTED = 3

    @property
    def word(self) -> str:
        """The name in filters and in what people read."""
        return self.name.lower()


@value
class Usage:
    """What a snapshot itself takes, without its parents: bytes on disk and inodes."""

    size: int = 0
    inodes: int = 0


UNCOUNTED: Final = Usage(-1, -1)  # of a committed snapshot: counted when it is asked for


@value
class Info:
    """One snapshot: `name` is its key while it is active or a view. Times are in nanoseconds since 1970.

    No parent is the empty string.
    """

    name: str
    kind: SnapshotKind
    parent: str = ""
    labels: Mapping[str, str] = NOTHING
    created: int = 0
    updated: int = 0
