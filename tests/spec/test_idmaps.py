"""Ranges of ids as texts of clients."""

import pytest

from layerfs.errors import InvalidArgument
from layerfs.spec.idmaps import parse_runs
from layerfs.sys.idmap import IdRun


def test_ranges_are_read_in_order() -> None:
    assert parse_runs("0:100000:65536,65536:5:1", "x") == (IdRun(0, 100000, 65536), IdRun(65536, 5, 1))


NONE = ["", "0:1", "0:1:0", "a:1:1", "0:1:1,", "-1:0:1", "0:4294967295:1", "0:1:99999999999", "0:1:1," * 341]


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_runs(text, "x")
