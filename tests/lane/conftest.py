"""Directories that are handed over to a lane."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.lane.lane import DIRECTORY
from tests.lane.copies import scene as scene
from tests.lane.rig import HOME, Rig

NAMES = [b"file", b"link", b"marked", b"sub"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "marked").touch()
    os.setxattr(tmp_path / "marked", "user.mark", b"")
    (tmp_path / "sub").mkdir()
    return tmp_path


@pytest.fixture
def rig(home: Path) -> Iterator[Rig]:
    with Rig() as rig:
        rig.hand_over(HOME, home, NAMES, [0, 0, 0, DIRECTORY])
        yield rig


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    (tmp_path / "old").write_bytes(b"old")
    os.mknod(tmp_path / "hidden", 0o20000, 0)  # a whiteout
    return tmp_path
