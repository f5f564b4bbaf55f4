"""Rules for stacks, checked before anything is touched. Both drivers follow them.

Directories that are stacked may not be inside each other, as in the kernel's overlayfs (fs/overlayfs/super.c,
ovl_check_overlapping_layers): that is decided on one filesystem. What is mounted inside a layer is not in the layer,
so `/` may be one while the upper is on another filesystem.
"""

import os
import stat
from collections.abc import Iterator

from layerfs.errors import InvalidArgument, NotFound
from layerfs.model import Stack

Identity = tuple[int, int]  # st_dev, st_ino


def validate(stack: Stack, mountpoint: bytes | None) -> None:
    """Refuse a stack that is incomplete, or that would show or swallow itself.

    Raises NotFound or InvalidArgument with the one sentence a person needs.
    """
    if not stack.lowers:
        raise InvalidArgument("no layer given", "name at least one lower directory")
    if (stack.upper is None) != (stack.work is None):
        raise InvalidArgument("an upper directory and a work directory come together", "give both or neither")
    seen: dict[Identity, bytes] = {}
    for layer in stack.lowers:
        identity = _layer(layer)
        if identity in seen:
            raise InvalidArgument(f"layer {_show(layer)} is given twice", "name each layer once")
        seen[identity] = layer
    places = _Places()
    for layer in stack.lowers:
        outer = next((seen[i] for i in _inside(layer, places) if i in seen), None)
        if outer is not None:  # one directory at two places of one tree: the kernel refuses it too (ELOOP)
            raise InvalidArgument(f"layer {_show(layer)} is inside layer {_show(outer)}", "layers may not overlap")
    if stack.upper is not None and stack.work is not None:
        _validate_upper(places, seen, stack.upper, stack.work)
    if mountpoint is not None:
        _validate_mountpoint(places, stack, seen, mountpoint)


def _layer(path: bytes) -> Identity:
    """Return which directory or image it is; whether a file is one of ours shows when it is opened."""
    st = _stat(path, "layer")
    if not (stat.S_ISDIR(st.st_mode) or stat.S_ISREG(st.st_mode) or stat.S_ISBLK(st.st_mode)):
        raise InvalidArgument(f"layer {_show(path)} is neither a directory nor an image", "give one of these")
    return st.st_dev, st.st_ino


def _directory(path: bytes, what: str) -> Identity:
    st = _stat(path, what)
    if not stat.S_ISDIR(st.st_mode):
        raise InvalidArgument(f"{what} {_show(path)} is not a directory", "give a directory")
    return st.st_dev, st.st_ino


def _stat(path: bytes, what: str) -> os.stat_result:
    try:
        return os.stat(path)
    except FileNotFoundError:
        raise NotFound(f"{what} {_show(path)} is not there", "check the path") from None
    except OSError as error:
        raise InvalidArgument(f"{what} {_show(path)} cannot be opened: {error.strerror}") from None


def _validate_upper(places: "_Places", lowers: dict[Identity, bytes], upper: bytes, work: bytes) -> None:
    top, scratch = _directory(upper, "upper directory"), _directory(work, "work directory")
    if top in lowers:
        raise InvalidArgument(f"upper directory {_show(upper)} is also a layer", "a layer is never written to")
    if scratch == top:
        raise InvalidArgument(
            f"work directory {_show(work)} is the upper directory itself", "give another one on the same filesystem"
        )
    if scratch in lowers:
        raise InvalidArgument(f"work directory {_show(work)} is also a layer", "give an empty directory of its own")
    if top[0] != scratch[0]:
        raise InvalidArgument(
            f"upper directory {_show(upper)} and work directory {_show(work)} are on different filesystems",
            "put them side by side",
        )
    for path, what in ((upper, "upper directory"), (work, "work directory")):
        inside = next((lowers[i] for i in _inside(path, places) if i in lowers), None)
        if inside is not None:
            raise InvalidArgument(f"{what} {_show(path)} is inside layer {_show(inside)}", "put it beside the layers")
    if top in _inside(work, places) or scratch in _inside(upper, places):
        raise InvalidArgument("the upper and the work directory are inside each other", "put them side by side")
    for layer in lowers.values():
        if top in _inside(layer, places):
            raise InvalidArgument(f"layer {_show(layer)} is inside the upper directory", "put it beside the upper")
        if scratch in _inside(layer, places):
            raise InvalidArgument(f"layer {_show(layer)} is inside the work directory", "put it beside it")


def _validate_mountpoint(places: "_Places", stack: Stack, lowers: dict[Identity, bytes], mountpoint: bytes) -> None:
    at = _directory(mountpoint, "mountpoint")
    layers = dict(lowers)
    for path in (stack.upper, stack.work):
        if path is not None:
            layers[_directory(path, "directory")] = path
            if _directory(path, "directory") == at:
                raise InvalidArgument(f"mountpoint {_show(mountpoint)} is the upper or work directory itself")
    inside = next((layers[i] for i in _inside(mountpoint, places) if i in layers), None)
    if inside is not None:
        raise InvalidArgument(
            f"mountpoint {_show(mountpoint)} is inside its own layer {_show(inside)}", "mount beside the layers"
        )
    for layer in layers.values():
        if at in places.above(layer):
            raise InvalidArgument(
                f"mountpoint {_show(mountpoint)} is above its own layer {_show(layer)}",
                "mounting there would hide the layer behind itself: mount beside the layers",
            )


def crossed(stack: Stack, mountpoint: bytes | None) -> set[bytes]:
    """Return the lowers inside which other filesystems hold something of the stack, or the mountpoint.

    Whoever reads such a lower by its path walks into those, perhaps into his own mount.
    """
    others = [path for path in (*stack.lowers, stack.upper, stack.work, mountpoint) if path is not None]
    places = _Places()
    above = {identity for path in others for identity in places.above(path)}
    return {layer for layer in stack.lowers if _layer(layer) in above}


class _Places:
    """The directories above paths; each is looked at once, however many layers are in it."""

    def __init__(self) -> None:
        self._real: dict[bytes, bytes] = {b"/": b"/"}
        self._ways: dict[bytes, tuple[Identity, ...]] = {}

    def above(self, path: bytes) -> tuple[Identity, ...]:
        """Return the identities of all directories above a path, as its real name leads, the nearest one first."""
        place = self._real_name(path)
        return () if place == b"/" else self._way(os.path.dirname(place))

    def _way(self, place: bytes) -> tuple[Identity, ...]:
        unknown = []
        at = place
        while at not in self._ways and at != b"/":
            unknown.append(at)
            at = os.path.dirname(at)
        if at not in self._ways:
            self._ways[at] = (_identity(at),)
        for further in reversed(unknown):
            self._ways[further] = (_identity(further), *self._ways[os.path.dirname(further)])
        return self._ways[place]

    def _real_name(self, path: bytes) -> bytes:
        """Return what os.path.realpath returns."""
        unknown = []
        at = path
        while at not in self._real:
            above, name = os.path.split(at)
            if name in (b"", b".", b"..") or not above:
                return os.path.realpath(path)
            unknown.append(at)
            at = above
        for at in reversed(unknown):
            above, name = os.path.split(at)
            linked = os.path.islink(at)
            self._real[at] = os.path.realpath(at) if linked else os.path.join(self._real[above], name)
        return self._real[path]


def _identity(path: bytes) -> Identity:
    st = os.stat(path)
    return st.st_dev, st.st_ino


def _inside(path: bytes, places: _Places) -> Iterator[Identity]:
    """Yield the identities of the directories above a path that are on its filesystem."""
    device = os.stat(path).st_dev
    for identity in places.above(path):
        if identity[0] != device:
            return
        yield identity


def _show(path: bytes) -> str:
    return os.fsdecode(path)
