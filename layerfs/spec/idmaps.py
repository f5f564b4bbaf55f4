"""Shifted owners in containerd's words: `IN:OUT:COUNT[,IN:OUT:COUNT...]`, in labels and in the options of mounts.

Ids IN of a layer, which are those within the container, are shown as OUT, those on the host. The texts come from
clients that nobody trusts.
"""

import re
from typing import Final

from layerfs.errors import InvalidArgument
from layerfs.sys.idmap import IdRun

MOST: Final = 340  # lines of a map (user_namespaces(7))
LARGEST: Final = 2**32 - 2
_RUN: Final = re.compile(r"([0-9]{1,10}):([0-9]{1,10}):([0-9]{1,10})")


def parse_runs(text: str, where: str) -> tuple[IdRun, ...]:
    """Return the ranges of a map; InvalidArgument, naming where it stands, for what is none."""
    parts = text.split(",")
    if len(parts) > MOST:
        raise InvalidArgument(f"{where} has {len(parts)} ranges; {MOST} are the most")
    runs = []
    for part in parts:
        match = _RUN.fullmatch(part)
        disk, shown, count = map(int, match.groups()) if match else (0, 0, 0)
        if not count or max(disk, shown) + count - 1 > LARGEST:
            raise InvalidArgument(f'{where}: "{part[:64]}" is no range of ids', "give IN:OUT:COUNT, as 0:100000:65536")
        runs.append(IdRun(disk, shown, count))
    return tuple(runs)
