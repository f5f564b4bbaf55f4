"""Options that name a store."""

from argparse import ArgumentParser
from pathlib import Path

import pytest

from layerfs.cli.store_options import add_max_size, add_store_options, limits_of, opened
from layerfs.errors import InvalidArgument
from layerfs.oci.target import USUAL


def test_store_that_is_named_is_opened(tmp_path: Path) -> None:
    parser = ArgumentParser()
    add_store_options(parser, snapshotter=True, platform=True)
    arguments = parser.parse_args(["--root", str(tmp_path / "store")])
    assert (arguments.snapshotter, arguments.platform) == ("auto", None)
    with opened(arguments):
        assert (tmp_path / "store/ledger.db").exists()


def test_size_of_layers_is_bounded_as_asked_for() -> None:
    parser = ArgumentParser()
    add_max_size(parser)
    assert limits_of(parser.parse_args([])) is USUAL
    assert limits_of(parser.parse_args(["--max-size", "10M"])).size == 10 << 20
    with pytest.raises(InvalidArgument):
        limits_of(parser.parse_args(["--max-size", "much"]))
