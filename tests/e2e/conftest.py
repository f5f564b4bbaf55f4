"""A stage for each kind of person."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .stage import Stage


@contextmanager
def performance(rootless: bool) -> Iterator[Stage]:
    stage = Stage(rootless)
    try:
        yield stage
        stage.finish()
    finally:
        stage.close()


@pytest.fixture(params=["root", "rootless"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """As root and then as an unprivileged user: a test that takes this runs as both."""
    with performance(request.param == "rootless") as stage:
        yield stage


@pytest.fixture
def root_stage() -> Iterator[Stage]:
    with performance(rootless=False) as stage:
        yield stage


@pytest.fixture
def rootless_stage() -> Iterator[Stage]:
    with performance(rootless=True) as stage:
        yield stage
