"""A disk for the length of a test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.host import require
from tests.powercut.disk import Disk


@pytest.fixture
def disk(scratch: Path) -> Iterator[Callable[[str], Disk]]:
    """Make disks by the name of their filesystem (MKFS in disk.py); they go with the test."""
    require("root", "fuse", "losetup")
    with ExitStack() as disks:
        yield lambda mkfs: disks.enter_context(Disk(scratch, mkfs))
