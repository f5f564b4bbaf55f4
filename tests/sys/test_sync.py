"""syncfs."""

import os
from pathlib import Path

import pytest

from layerfs.sys.sync import sync_filesystem, sync_names


def test_names_of_a_directory_are_synced(scratch: Path) -> None:
    sync_names(os.fsencode(scratch))
    with pytest.raises(NotADirectoryError):
        sync_names(b"/dev/null")


def test_sync_wants_a_directory_that_is_there(scratch: Path) -> None:
    sync_filesystem(os.fsencode(scratch))
    with pytest.raises(FileNotFoundError):
        sync_filesystem(os.fsencode(scratch / "absent"))
