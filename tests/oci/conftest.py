"""A store, and a registry in memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.oci import directory, transport
from layerfs.snapshots.library import Store, open_store
from tests.host import require
from tests.oci.registries import Naughty


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, scratch: Path) -> None:
    """Waits are short, and nobody's credentials are found."""
    monkeypatch.setattr(transport, "_FIRST_WAIT", 0.01)
    for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(scratch / "home"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)


@pytest.fixture(params=["in C", "in Python"])
def each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Plain entries are written by either."""
    assert directory.Batch is not None
    if request.param == "in Python":
        monkeypatch.setattr(directory, "Batch", None)
    return str(request.param)


@pytest.fixture
def store(scratch: Path) -> Iterator[Store]:
    """An empty store."""
    require("root", "kernel overlay")
    with open_store(scratch / "store") as opened:
        yield opened


@pytest.fixture
def naughty() -> Iterator[Naughty]:
    """A registry that does what a test wants."""
    with Naughty().running() as running:
        yield running
