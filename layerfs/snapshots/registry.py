"""Drivers by name, through the entry points `layerfs.snapshotters`; ours are found as a third party's are.

Installed packages say in *.dist-info/entry_points.txt what they offer (Entry points specification). That is read here:
importlib.metadata, which reads it too, takes 20 ms to import, as long as all else that `layerfs snapshot` does.
"""

import os
import re
import sys
from importlib import import_module
from typing import Final

from layerfs.errors import InvalidArgument, LayerfsError, NotFound
from layerfs.snapshots.driver import SnapshotDriver

GROUP: Final = "layerfs.snapshotters"
BEST: Final = ("overlay", "fuse", "btrfs", "xar")  # what `auto` tries in this order before all others
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")  # it names a directory
_TABLES: Final = (".dist-info", ".egg-info")


def names() -> list[str]:
    """Return the names of all drivers, best first."""
    found = {name for name in _offered() if _NAME.fullmatch(name)}
    return [*(name for name in BEST if name in found), *sorted(found.difference(BEST))]


def load(name: str, root: bytes) -> SnapshotDriver:
    """Return the driver of a name for a directory. Raises NotFound, and LayerfsError if it cannot be loaded."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f'"{name}" is no name of a snapshotter', f"there are: {', '.join(names())}")
    value = _offered().get(name)
    if value is None:
        raise NotFound(f"there is no snapshotter {name}", f"there are: {', '.join(names())}")
    module, _, attribute = value.partition(":")
    try:
        driver: SnapshotDriver = getattr(import_module(module), attribute)(root)
    except (ImportError, AttributeError, ValueError) as error:
        raise LayerfsError(f"the snapshotter {name} ({value}) cannot be loaded: {error}") from error
    return driver


def _offered() -> dict[str, str]:
    """Return what is offered: names, and MODULE:ATTRIBUTE of each; the first on the path counts."""
    found: dict[str, str] = {}
    for directory in dict.fromkeys(sys.path):
        try:
            packages = [name for name in os.listdir(directory or ".") if name.endswith(_TABLES)]
        except OSError:  # a zip file, or nothing
            continue
        for package in sorted(packages):
            for name, value in _entries(os.path.join(directory or ".", package, "entry_points.txt")):
                found.setdefault(name, value)
    return found


def _entries(path: str) -> list[tuple[str, str]]:
    """Return the entries of our group in a file of sections and `NAME = VALUE` lines."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError):
        return []
    _, heading, rest = text.partition(f"[{GROUP}]")
    if not heading:
        return []
    lines = [line.partition("=") for line in rest.partition("\n[")[0].splitlines() if "=" in line]
    return [(name.strip(), value.partition("[")[0].strip()) for name, _, value in lines]
