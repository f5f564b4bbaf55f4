"""A stage for each kind of person."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.host import require

from .containerd import on_btrfs
from .people import Kind
from .stage import Stage

collect_ignore = [] if os.environ.get("LAYERFS_PEERS") else ["test_peers.py"]  # programs that Debian 12 has not


@pytest.fixture(autouse=True)
def needs(request: pytest.FixtureRequest) -> None:
    """Each module names the programs it needs."""
    require(*getattr(request.module, "NEEDS", ()))


@pytest.fixture(params=["overlay", "fuse", "xar", "btrfs"])
def snapshotter(request: pytest.FixtureRequest, scratch: Path) -> str:
    """Each snapshotter's name; for btrfs the store is on a filesystem of its own."""
    (scratch / "store").mkdir(mode=0o700)
    if request.param == "btrfs":
        on_btrfs(scratch)
    return f"layerfs-{request.param}"


@contextmanager
def performance(kind: Kind) -> Iterator[Stage]:
    stage = Stage(kind)
    try:
        yield stage
        stage.finish()
    finally:
        stage.close()


@pytest.fixture(params=Kind, ids=lambda kind: kind.value)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A test that takes this runs as everybody: root, a user, and the user as root of a user namespace."""
    with performance(request.param) as stage:
        yield stage


@pytest.fixture
def root_stage() -> Iterator[Stage]:
    with performance(Kind.ROOT) as stage:
        yield stage


@pytest.fixture
def user_stage() -> Iterator[Stage]:
    with performance(Kind.USER) as stage:
        yield stage


@pytest.fixture(params=[Kind.ROOT, Kind.USER], ids=lambda kind: kind.value)
def engine_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """For container engines, which make their user namespaces themselves."""
    with performance(request.param) as stage:
        yield stage
