"""`Mount` values made into mounts: the one place for drivers, snapshotters and whoever receives containerd's words."""

import os

from layerfs.model import Mount
from layerfs.spec.overlay import OVERLAY, stack_of
from layerfs.sys.mounts import mount as mount_other
from layerfs.sys.mounts import parse_generic
from layerfs.sys.overlay import mount_overlay


def mount_all(mounts: tuple[Mount, ...], target: bytes) -> None:
    """Mount values at `target`, in order: later ones on, or with a relative `target` of their own below, earlier ones.

    Raises OSError and LayerfsError of the mount that failed; those before it are unmounted again.
    """
    from layerfs.sys.mounts import unmount

    made: list[bytes] = []
    try:
        for mount in mounts:
            place = os.path.join(target, os.fsencode(mount.target)) if mount.target else target
            apply(mount, place)
            made.append(place)
    except BaseException:
        for place in reversed(made):
            unmount(place, lazy=True)
        raise


def apply(mount: Mount, target: bytes) -> None:
    """Mount one value at `target`; an overlay's layers are given to the kernel one by one where it takes them so.

    The options then need not fit into the page that mount(2) takes. Raises OSError, and LayerfsError for values that
    make no sense.
    """
    if mount.type != OVERLAY:
        mount_other(mount, target)
        return
    stack, words = stack_of(mount)
    flags, rest = parse_generic(words)
    mount_overlay(stack, target, rest, flags)
