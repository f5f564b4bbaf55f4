"""Labels that ask for other owners."""

import pytest

from layerfs.errors import InvalidArgument
from layerfs.snapshots.driver import GIDS, UIDS
from layerfs.snapshots.idmaps import maps_of
from layerfs.sys.idmap import IdRun


def test_both_labels_make_maps_and_name_root() -> None:
    maps = maps_of({UIDS: "0:100000:65536", GIDS: "0:200000:10,10:5:1"})
    assert maps is not None
    assert maps.gids == (IdRun(0, 200000, 10), IdRun(10, 5, 1))
    assert maps.root() == (100000, 200000)
    assert maps_of({"other": "label"}) is None


HALVES = [{UIDS: "0:1:1"}, {GIDS: "0:1:1"}, {UIDS: "0:1", GIDS: "0:1:1"}, {UIDS: "", GIDS: ""}]


@pytest.mark.parametrize("labels", HALVES)
def test_half_a_wish_and_what_is_no_map_are_refused(labels: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        maps_of(labels)


def test_map_without_root_has_no_root() -> None:
    maps = maps_of({UIDS: "5:100000:10", GIDS: "0:1:1"})
    assert maps is not None
    with pytest.raises(InvalidArgument):
        maps.root()
