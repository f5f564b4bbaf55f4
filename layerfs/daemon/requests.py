"""Reading a client's requests within bounds; nothing in them is trusted, not even that it is text.

The server bounds a whole message (16 MiB); these bounds keep what is stored, and what a filter may cost, small.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from layerfs.errors import InvalidArgument
from layerfs.snapshots.driver import SnapshotKind
from layerfs.store.info import Info

KEY: Final = 4096  # bytes of a key, a name or a parent
LABEL: Final = 4096  # bytes of a label's key and value together (containerd, "labels.Validate")
LABELS: Final = 1024  # of one snapshot
FILTERS: Final = 128  # in one request
FILTER: Final = 16384  # bytes of one filter


def key_of(text: str, what: str = "key") -> str:
    """Return a key as it is. Raises InvalidArgument for one that is empty or too long."""
    if not text:
        raise InvalidArgument(f"the {what} is empty", f"give a {what}")
    return parent_of(text, what)


def parent_of(text: str, what: str = "parent") -> str:
    """Return the name of a parent, which may be empty. Raises InvalidArgument for one that is too long."""
    if len(text.encode()) > KEY:
        raise InvalidArgument(f"the {what} has more than {KEY} bytes", "give a shorter one")
    if "\0" in text:
        raise InvalidArgument(f"the {what} holds a NUL byte", "give another one")
    return text


def labels_of(found: Mapping[str, str]) -> dict[str, str]:
    """Return labels. Raises InvalidArgument for too many, or one that is too large."""
    if len(found) > LABELS:
        raise InvalidArgument(f"{len(found)} labels on one snapshot", f"at most {LABELS}")
    for name, value in found.items():
        if not name:
            raise InvalidArgument("a label has no name", "name it")
        if len(name.encode()) + len(value.encode()) > LABEL:
            raise InvalidArgument(f"the label {name[:64]} has more than {LABEL} bytes", "key and value count together")
    return dict(found)


def filters_of(found: Iterable[str]) -> tuple[str, ...]:
    """Return filters. Raises InvalidArgument for too many, or one that is too long."""
    filters = tuple(found)
    if len(filters) > FILTERS or any(len(text) > FILTER for text in filters):
        raise InvalidArgument("the filters are too many or too long", f"at most {FILTERS} of {FILTER} bytes")
    return filters


def update_of(request: Any) -> tuple[Info, tuple[str, ...]]:
    """Return what an update asks for. Raises InvalidArgument."""
    paths = tuple(request.update_mask.paths)
    if len(paths) > LABELS or any(len(path) > LABEL + len("labels.") for path in paths):
        raise InvalidArgument("the update mask is too long", f"at most {LABELS} paths")
    info = Info(
        name=key_of(request.info.name, "name"), kind=SnapshotKind.COMMITTED, labels=labels_of(request.info.labels)
    )
    return info, paths
