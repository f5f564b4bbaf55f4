"""Adding to a stack what the XARs among its layers depend on, before it is mounted.

On the way of every mount: a directory costs one stat(2) here, and only a XAR imports what resolves dependencies.
"""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from layerfs.errors import LayerfsError
from layerfs.lowers.kinds import LayerKind, is_image, look
from layerfs.model import Stack
from layerfs.value import replace, value

if TYPE_CHECKING:
    from layerfs.xar.graph import Resolution

SHOWN: Final = 10  # conflicts that are told one by one
_CACHED: Final = b"/packages/"  # in the path of every entry of a cache (layerfs.store.cache)


@value
class Complete:
    """A stack with all that its layers depend on, top first, and how that was found; None if no layer is a XAR."""

    stack: Stack
    resolution: "Resolution | None" = None

    def warnings(self) -> Iterator[str]:
        """Tell which files several packages provide, if any package is there only because another one needs it.

        Reads every directory of those images, so it is asked for once the mount stands. Equal files are not told of.
        """
        if self.resolution is None or not self.resolution.pulled:
            return
        from layerfs.xar.conflicts import MOUNTING, find_conflicts

        members = self.resolution.connected
        names = [os.fsdecode(member.name) for member in members]
        search = find_conflicts([member.path for member in members], MOUNTING)
        found = [conflict for conflict in search.found if not conflict.equal]
        for conflict in found[:SHOWN]:
            seen, *hidden = (names[index] for index in conflict.providers)
            yield f"/{os.fsdecode(conflict.path)} of {seen} hides that of {', '.join(hidden)}"
        if len(found) > SHOWN:
            yield f"and {len(found) - SHOWN} more files (`layerfs xar graph` shows them)"
        if search.ended:
            yield f"looking for files that hide others ended {search.ended} (`layerfs xar graph` looks longer)"


def complete(stack: Stack) -> Complete:
    """Return a stack [absolute paths] with what its layers depend on.

    Packages from a cache are checked, and kept from being evicted while this process lives. Raises what
    `layerfs.xar.graph.resolve` raises; what cannot be looked at is left to the mount.
    """
    if not any(_is_package(lower, stack.offset or None) for lower in stack.lowers):
        return Complete(stack)
    from layerfs.store.cache import Cache
    from layerfs.xar.graph import resolve
    from layerfs.xar.search import Search

    resolution = resolve(stack.lowers, Search.from_environment(Cache.all))
    _keep(resolution.lowers)
    return Complete(replace(stack, lowers=resolution.lowers), resolution)


def _is_package(path: bytes, offset: int | None) -> bool:
    """Tell whether a layer is a XAR; False for one that cannot be read: opening it later tells what is wrong."""
    try:
        return is_image(path) and look(path, offset).kind is LayerKind.XAR
    except (LayerfsError, OSError):
        return False


def _keep(lowers: Sequence[bytes]) -> None:
    """Check those layers that are in a cache and hold them until this process ends: the server holds them then."""
    lowers = [lower for lower in lowers if _CACHED in os.path.realpath(lower)]
    if not lowers:
        return
    from layerfs.store.cache import Cache

    for cache in Cache.all():
        for path in lowers:
            entry = cache.entry_at(path)
            if entry is not None:
                cache.hold(entry)
                cache.checked(entry)
