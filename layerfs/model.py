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
    """One mount in containerd's words: what mount(8) would be told. `layerfs.mounts.apply` acts on it.

    `options` go to mount(2) joined by commas: what is special in a path is escaped in them already
    (`layerfs.spec.overlay` prints and parses them). Paths are as os.fsdecode has them. `target` is empty where whoever
    mounts chooses the mountpoint, else relative to it or absolute.
    """

    type: str
    source: str
    options: tuple[str, ...] = ()
    target: str = ""
