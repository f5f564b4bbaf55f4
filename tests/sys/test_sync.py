"""syncfs."""

import os
from pathlib import Path

import pytest

from layerfs.sys.sync import sync_filesystem


def test_sync_wants_a_directory_that_is_there(scratch: Path) -> None:
    sync_filesystem(os.fsencode(scratch))
    with pytest.raises(FileNotFoundError):
        sync_filesystem(os.fsencode(scratch / "absent"))
