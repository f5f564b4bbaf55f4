"""Drivers by name, through the entry points `layerfs.snapshotters`; ours come by the same door as a third party's."""

import re
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from layerfs.errors import InvalidArgument, LayerfsError, NotFound
from layerfs.snapshots.driver import Driver

GROUP: Final = "layerfs.snapshotters"
BEST: Final = ("overlay", "fuse", "btrfs", "xar")  # what `auto` tries in this order before all others
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")  # it names a directory


def names() -> list[str]:
    """Return the names of all drivers, best first."""
    found = {point.name for point in entry_points(group=GROUP) if _NAME.fullmatch(point.name)}
    return [*(name for name in BEST if name in found), *sorted(found.difference(BEST))]


def load(name: str, root: bytes) -> Driver:
    """Return the driver of a name for a directory. Raises NotFound, and LayerfsError if it cannot be loaded."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f'"{name}" is no name of a snapshotter', f"there are: {', '.join(names())}")
    point = next(iter(entry_points(group=GROUP, name=name)), None)
    if point is None:
        raise NotFound(f"there is no snapshotter {name}", f"there are: {', '.join(names())}")
    return _loaded(point, root)


def _loaded(point: EntryPoint, root: bytes) -> Driver:
    try:
        driver: Driver = point.load()(root)
    except (ImportError, AttributeError) as error:
        raise LayerfsError(f"the snapshotter {point.name} ({point.value}) cannot be loaded: {error}") from error
    return driver
