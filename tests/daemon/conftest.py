"""What tests of the daemon are given: a store, and a daemon of their own over it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import layerfs
from layerfs.daemon.served_store import ServedStore
from tests.daemon.client import Client, Served, serving


@pytest.fixture
def served_store(scratch: Path) -> Iterator[ServedStore]:
    """An empty store, as the daemon serves it."""
    with layerfs.open_store(scratch / "store") as store:
        yield ServedStore(store)


@pytest.fixture
def served(scratch: Path) -> Iterator[Served]:
    """A daemon that serves an empty store, in a process of its own."""
    with serving(scratch) as daemon:
        yield daemon


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    """A client of that daemon."""
    with Client(served.address) as made:
        yield made
