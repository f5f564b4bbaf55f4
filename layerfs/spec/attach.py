"""The options of a FUSE mount for the kernel; light to import, because each mount waits for it."""

from layerfs.sys.mounts import MountFlag
from layerfs.value import value

NAME = b"layerfs"


@value
class AttachOptions:
    """What the kernel is told when it mounts FUSE: mount(8) shows `source` and the type `fuse.SUBTYPE`.

    `allow_other` None means where it is permitted: for root always, else if /etc/fuse.conf says user_allow_other.
    `max_read` is the largest read request [bytes], 0 for the kernel's choice. `unchecked` is for whoever mounts alone:
    nobody else may look, whatever `allow_other` says, and the kernel does not compare modes and owners with the caller.
    `lane` lets native code answer what needs no Python.
    """

    flags: MountFlag = MountFlag.NONE
    source: bytes = NAME
    subtype: bytes = NAME
    allow_other: bool | None = None
    max_read: int = 0
    unchecked: bool = False
    lane: bool = True
