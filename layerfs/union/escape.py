"""Nested overlays: marks that an inner overlay writes are stored under other names than the outer overlay's own.

A mark that is set through the mount is stored with `overlay.` put in once more, and shown without it
(overlayfs.rst, "nesting overlayfs mounts"): trusted.overlay.opaque becomes trusted.overlay.overlay.opaque. Marks of
fuse-overlayfs and of containers/storage, which this union reads too, are stored as NAMESPACE.overlay.overlay..REST.
A device 0/0 that is made through the mount would hide a name here; an empty file with a mark stands for it.
"""

import os
import stat
from collections.abc import Iterable
from typing import Final

from layerfs.sys import target
from layerfs.union.layers import Ref, Tree, xattrs
from layerfs.union.shown import Attributes, Shown
from layerfs.union.whiteout import OVERLAYS, is_private

_SPACES: Final = ("trusted.", "user.", "security.")
_OURS: Final = "overlay."
_ESCAPED: Final = tuple(f"{space}{_OURS}{_OURS}" for space in _SPACES)
_DEVICE: Final = "layerfs.device"  # below the marks' prefix
_DEVICES: Final = frozenset(f"{prefix}{_DEVICE}" for prefix in OVERLAYS)


def stored(name: str) -> str:
    """Return the name under which an xattr that is set through the mount is stored."""
    space = next((space for space in _SPACES if name.startswith(space)), "")
    rest = name[len(space) :]
    if space and rest.startswith(_OURS):
        return f"{space}{_OURS}{rest}"
    return f"{space}{_OURS}{_OURS}.{rest}" if is_private(name) else name


def shown(name: str) -> str | None:
    """Return the name under which a stored xattr is seen through the mount; None for the overlay's own marks."""
    for escaped, space in zip(_ESCAPED, _SPACES, strict=True):
        if name.startswith(escaped):
            rest = name[len(escaped) :]
            return f"{space}{rest[1:]}" if rest.startswith(".") else f"{space}{_OURS}{rest}"
    return None if is_private(name) else name


def is_copied(name: str) -> bool:
    """Tell whether a copy-up copies an xattr: all but the marks of the lower layer."""
    return shown(name) is not None or name in _DEVICES


def mark_device(fd: int, prefix: str) -> None:
    """Make an empty file stand for a device 0/0; kernel overlayfs shows it as an inner whiteout."""
    for name, value in device_marks(prefix).items():
        target.setxattr(fd, name, value)


def device_marks(prefix: str) -> dict[str, bytes]:
    """Return the xattrs of an empty file that stands for a device 0/0."""
    return {f"{prefix}{_OURS}whiteout": b"y", f"{prefix}{_DEVICE}": b"0:0"}


def stands_for_device(names: Iterable[str]) -> bool:
    """Tell from its xattrs whether an empty file stands for a device 0/0."""
    return not _DEVICES.isdisjoint(names)


def with_device(tree: Tree, ref: Ref, st: Attributes, seen: Attributes) -> Attributes:
    """Show the device that an empty file stands for; `st` is what the layer has, `seen` what is shown of it so far."""
    if st.st_size or not stat.S_ISREG(st.st_mode) or not stands_for_device(xattrs(tree, ref)):
        return seen
    device = Shown(seen)
    device.st_mode = stat.S_IFCHR | stat.S_IMODE(seen.st_mode)
    device.st_rdev = os.makedev(0, 0)
    return device
