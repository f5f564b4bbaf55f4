"""A directory of small files, as a union has it."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from layerfs.model import Stack
from layerfs.union.inodes import Directory
from layerfs.union.options import UnionOptions
from layerfs.union.union import Union

FILES = 60


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Directory]:
    """The root of a union of one layer of FILES files, its listing loaded."""
    for number in range(FILES):
        (tmp_path / f"f{number:02}").write_bytes(b"data")
    with closing(Union.open(Stack((os.fsencode(tmp_path),)), UnionOptions())) as union:
        union.names(1)
        yield union.root()
