"""Frozen words that every room shares."""

from enum import Enum

from layerfs.value import value


class Driver(Enum):
    """Who serves a mount; AUTO takes the kernel where the host permits it, else FUSE."""

    AUTO = "auto"
    KERNEL = "kernel"
    FUSE = "fuse"


@value
class Stack:
    """Absolute paths of read-only lowers, top first, and the one upper with its work directory.

    No upper means a read-only mount; upper and work come together.
    """

    lowers: tuple[bytes, ...]
    upper: bytes | None = None
    work: bytes | None = None


@value
class Mount:
    """What mount(2) would be told; only `layerfs.sys.mounts` acts on it."""

    type: str
    source: str
    target: str
    options: tuple[str, ...] = ()
