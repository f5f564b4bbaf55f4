"""What tests of packages are given."""

from pathlib import Path

import pytest

from layerfs.store.cache import Cache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """An empty cache, the only one there is."""
    monkeypatch.setenv("LAYERFS_CACHE", str(tmp_path / "cache"))
    return Cache.own()
