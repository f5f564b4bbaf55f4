"""Validation of keys, names and labels, which may come from a client that is not trusted.

containerd drops a label whose value is empty, wherever one comes from, and so do we.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from layerfs.errors import InvalidArgument

LONGEST_KEY: Final = 32768  # bytes; the longest key of containerd's own database
LONGEST_LABEL: Final = 4096  # bytes of name and value; containerd's bound
ALL_LABELS: Final = 1 << 20  # bytes of one snapshot's labels; guessed


def checked_key(key: str) -> str:
    """Return a key or name. Raises InvalidArgument for the empty one, one too long, and what is no Unicode text."""
    if not key:
        raise InvalidArgument("a snapshot's key cannot be empty")
    if _size(key, "key") > LONGEST_KEY:
        raise InvalidArgument(f"a key has {len(key)} characters; {LONGEST_KEY} bytes are the most")
    return key


def checked_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels without those that have no value."""
    total = 0
    for name, content in labels.items():
        size = _size(name, "label") + _size(content, "label")
        total += size
        if not name or size > LONGEST_LABEL:
            said = f'label "{name[:64]}" has {size} bytes with its value'
            raise InvalidArgument(said, f"1 to {LONGEST_LABEL} are allowed")
    if total > ALL_LABELS:
        raise InvalidArgument(f"labels have {total} bytes; {ALL_LABELS} are the most")
    return {name: content for name, content in labels.items() if content}


def updated_labels(old: Mapping[str, str], new: Mapping[str, str], fields: Sequence[str]) -> Mapping[str, str]:
    """Return what labels become: the new ones, or the old ones with those changed that fields such as labels.X name.

    Raises InvalidArgument for a field that cannot be changed.
    """
    if not fields:
        return new
    labels = dict(old)
    for field in fields:
        kind, dot, name = field.partition(".")
        if field == "labels":
            labels = dict(new)
        elif kind == "labels" and dot:
            labels[name] = new.get(name, "")
        else:
            raise InvalidArgument(f'the field "{field}" of a snapshot cannot be changed', "only labels can")
    return {name: content for name, content in labels.items() if content}


def _size(text: str, what: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise InvalidArgument(f"a {what} is no Unicode text: {text[:64]!r}") from None
