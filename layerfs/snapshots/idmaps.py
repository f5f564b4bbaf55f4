"""The labels with which a client asks for shifted owners: containerd.io/snapshot/uidmapping and gidmapping.

What a container writes has its ids on the host already; so what is shifted are the parents, and the new root.
"""

from collections.abc import Mapping

from layerfs.errors import InvalidArgument
from layerfs.snapshots.driver import GIDS, UIDS
from layerfs.spec.idmaps import parse_runs
from layerfs.sys.idmap import IdRun
from layerfs.value import value


@value
class IdMaps:
    """Both maps, and the text that each came from."""

    uids: tuple[IdRun, ...]
    gids: tuple[IdRun, ...]
    uid_text: str
    gid_text: str

    def root(self) -> tuple[int, int]:
        """Return the host's ids of root in the maps; InvalidArgument if root is not mapped."""
        return _shown(self.uids, UIDS), _shown(self.gids, GIDS)


def maps_of(labels: Mapping[str, str]) -> IdMaps | None:
    """Return the maps that labels ask for, or None. Raises InvalidArgument if one is missing or malformed."""
    uids, gids = labels.get(UIDS), labels.get(GIDS)
    if uids is None and gids is None:
        return None
    if uids is None or gids is None:
        raise InvalidArgument(f"label {UIDS if uids is None else GIDS} is missing", "uids and gids are mapped together")
    return IdMaps(parse_runs(uids, f"label {UIDS}"), parse_runs(gids, f"label {GIDS}"), uids, gids)


def _shown(runs: tuple[IdRun, ...], label: str) -> int:
    for run in runs:
        if run.disk == 0:
            return run.shown
    raise InvalidArgument(f"label {label} maps no root", "map id 0 too")
