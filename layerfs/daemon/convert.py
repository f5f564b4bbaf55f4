"""The store's values as messages, and mounts back from messages."""

from collections.abc import Iterable
from typing import Any, Final

from layerfs.daemon.messages import SNAPSHOTS, TYPES, message
from layerfs.model import Mount
from layerfs.store.info import Info

_Info, _Mount = message(SNAPSHOTS, "Info"), message(TYPES, "Mount")
_SECOND: Final = 1_000_000_000  # ns


def info_of(info: Info) -> Any:
    """Return a snapshot's facts as a message."""
    answer = _Info(name=info.name, parent=info.parent, kind=info.kind.value, labels=dict(info.labels))
    for field, time in ((answer.created_at, info.created), (answer.updated_at, info.updated)):
        field.seconds, field.nanos = divmod(time, _SECOND)
    return answer


def mounts_of(mounts: Iterable[Mount]) -> list[Any]:
    """Return mounts as messages.

    A text of protocol buffers is UTF-8, so a path that is not cannot be sent: it becomes a ValueError. The store's
    root is the only path of ours that a person chooses, and `layerfs serve` refuses such a root at its start.
    """
    return [
        _Mount(type=mount.type, source=mount.source, target=mount.target, options=mount.options) for mount in mounts
    ]


def mounts_from(messages: Iterable[Any]) -> tuple[Mount, ...]:
    """Return mounts that a client sent, unchecked."""
    return tuple(Mount(m.type, m.source, tuple(m.options), m.target) for m in messages)
