"""The union's tests work in memory where they can: hundreds of little layers, made and thrown away."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import a_scratch

MEMORY = "/dev/shm"


@pytest.fixture
def scratch() -> Iterator[Path]:
    """An empty directory in memory; on disk where the host has no writable tmpfs."""
    with a_scratch(MEMORY if os.access(MEMORY, os.W_OK) and os.path.ismount(MEMORY) else None) as place:
        yield place


@pytest.fixture
def disk() -> Iterator[Path]:
    """An empty directory of the filesystem that /tmp is on."""
    with a_scratch() as place:
        yield place
