"""Frozen words that every room shares."""

from enum import Enum
from typing import TYPE_CHECKING

from layerfs.value import value

if TYPE_CHECKING:
    from os import PathLike


class Driver(Enum):
    """Who serves a mount; AUTO takes the kernel where the host permits it, else FUSE."""

    AUTO = "auto"
    KERNEL = "kernel"
    FUSE = "fuse"


@value
class Stack:
    """Absolute paths of read-only lowers, top first, and the one upper with its work directory.

    No upper means a read-only mount; upper and work come together. `offset` [bytes] is where the images among the
    lowers begin in their files, unless these are XARs, which say it themselves.
    """

    lowers: tuple[bytes, ...]
    upper: bytes | None = None
    work: bytes | None = None
    offset: int = 0


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

    def perform(self, target: "bytes | str | PathLike[str]") -> None:
        """Mount it at `target`, or at its own target below that. Raises OSError and LayerfsError with nothing mounted.

        This room is below all that can mount, so who does is found by name when it is asked for.
        """
        from importlib import import_module
        from os import fsencode

        import_module("layerfs.mounts.apply").mount_all((self,), fsencode(target))
