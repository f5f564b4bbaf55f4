"""The union's tests work in memory where they can: hundreds of little layers, made and thrown away."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import clear

MEMORY = "/dev/shm"


@pytest.fixture
def scratch() -> Iterator[Path]:
    """An empty directory in memory; on disk where the host has no writable tmpfs."""
    memory = MEMORY if os.access(MEMORY, os.W_OK) and os.path.ismount(MEMORY) else None
    place = Path(tempfile.mkdtemp(prefix="layerfs-test-", dir=memory))
    place.chmod(0o755)
    try:
        yield place
    finally:
        clear(place)


@pytest.fixture
def disk() -> Iterator[Path]:
    """An empty directory of the filesystem that /tmp is on."""
    place = Path(tempfile.mkdtemp(prefix="layerfs-test-"))
    place.chmod(0o755)
    try:
        yield place
    finally:
        clear(place)
