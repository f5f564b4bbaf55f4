"""A directory to make images of."""

from pathlib import Path

import pytest

from tests.host import require


@pytest.fixture
def tree(scratch: Path) -> Path:
    require("mksquashfs")
    place = scratch / "tree"
    place.mkdir()
    return place
